"""The limits that keep a lesson readable, each fault said in one sentence."""

import ast
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

import kie_course
from kie_course.notebooks import alt_text

LINES_MEDIAN, LINES_90TH, LINES_MOST, WIDTH = 4, 13, 30, 88
CODE_SHARE = (0.45, 0.55)
QUESTIONS = 3
ENDING = ("summary", "quiz", "reading")
DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def faults(nb: NotebookNode, lesson: str) -> list[str]:
    """Everything in which a lesson breaks the limits."""
    first = lesson == "00"
    return [
        *size_faults(nb),
        *cell_faults(nb),
        *structure_faults(nb, first_lesson=first),
        *drift(nb),
    ]


def tagged(nb: NotebookNode, tag: str) -> list[NotebookNode]:
    """The cells that carry a tag."""
    return [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]


def code_cells(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Code cells with their position in the file, from 1."""
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "code":
            yield number, cell


def size_faults(nb: NotebookNode) -> Iterator[str]:
    """Lines per code cell (blank ones aside) and the share of code cells."""
    lines = sorted(
        sum(bool(line.strip()) for line in cell.source.splitlines())
        for _, cell in code_cells(nb)
    )
    median, ninetieth = statistics.median(lines), lines[math.ceil(0.9 * len(lines)) - 1]
    # By its format an exercise is a task and two code cells: no measure of prose.
    text = [c for c in nb.cells if not c.id.startswith(("ex-", "exercises-"))]
    share = sum(cell.cell_type == "code" for cell in text) / len(text)
    if median > LINES_MEDIAN:
        yield f"the median code cell has {median} lines, more than {LINES_MEDIAN}"
    if ninetieth > LINES_90TH:
        yield f"a tenth of the code cells has {ninetieth} lines, more than {LINES_90TH}"
    if lines[-1] > LINES_MOST:
        yield f"the longest code cell has {lines[-1]} lines, more than {LINES_MOST}"
    if not CODE_SHARE[0] <= share <= CODE_SHARE[1]:
        band = " to ".join(f"{bound:.0%}" for bound in CODE_SHARE)
        yield f"{share:.0%} of the cells are code, not {band}"


def cell_faults(nb: NotebookNode) -> Iterator[str]:
    """What no single code cell may hold."""
    for number, cell in code_cells(nb):
        if not cell.source.strip():
            yield f"cell {number} is empty"
        if any(len(line) > WIDTH for line in cell.source.splitlines()):
            yield f"cell {number} has a line of more than {WIDTH} characters"
        if waits_for_input(cell.source):
            yield f"cell {number} waits for input()"
        if any(alt_text(output) == "" for output in cell.outputs):
            yield f"cell {number} shows an image without alt text"


def waits_for_input(source: str) -> bool:
    """Tell whether a cell calls input(); model_input() is another matter."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(isinstance(f, ast.Name) and f.id == "input" for f in calls)


def structure_faults(nb: NotebookNode, first_lesson: bool) -> Iterator[str]:
    """The parts that every lesson has, in their order."""
    title = nb.cells[0]
    if title.cell_type != "markdown" or not title.source.startswith("# "):
        yield "the first cell is not the title"
    parameters = tagged(nb, "parameters")
    if len(parameters) != 1 or "KIE_PROFILE" not in parameters[0].source:
        yield "there is not one cell tagged parameters that reads KIE_PROFILE"
    if len(tagged(nb, "predict")) < QUESTIONS:
        yield f"there are fewer than {QUESTIONS} cells tagged predict"
    if not first_lesson and text(nb, "recall").count("?") < QUESTIONS:
        yield f"the cells tagged recall ask fewer than {QUESTIONS} questions"
    quiz = text(nb, "quiz")
    if min(quiz.count("<details>"), quiz.count("</details>")) < QUESTIONS:
        yield f"the quiz has fewer than {QUESTIONS} answers in <details>"
    ends = [nb.cells.index(c) for tag in ENDING for c in tagged(nb, tag)[:1]]
    if len(ends) != len(ENDING) or ends != sorted(ends):
        yield f"the lesson does not end with cells tagged {', '.join(ENDING)}"


def text(nb: NotebookNode, tag: str) -> str:
    """The markdown of the cells that carry a tag."""
    return "\n".join(c.source for c in tagged(nb, tag) if c.cell_type == "markdown")


def drift(nb: NotebookNode) -> Iterator[str]:
    """Where a cell tagged in-package is not what the package defines."""
    for number, cell in code_cells(nb):
        if "in-package" in cell.metadata.get("tags", []):
            for name, code in definitions(cell.source):
                if name is None:
                    yield f"cell {number} does more than define functions and classes"
                elif code not in package_definitions()[name]:
                    yield f"cell {number} defines {name} otherwise than the package"


@cache
def package_definitions() -> defaultdict[str, set[str]]:
    """Every top-level function and class of the package, by name."""
    found = defaultdict(set)
    for file in Path(kie_course.__file__).parent.rglob("*.py"):
        for name, code in definitions(file.read_text(encoding="utf-8")):
            found[name].add(code)
    return found


def definitions(source: str) -> Iterator[tuple[str | None, str]]:
    """Name (None if it defines nothing) and syntax tree of each top-level statement."""
    for node in ast.parse(source).body:
        for inner in ast.walk(node):
            if isinstance(inner, DEFINITION) and ast.get_docstring(inner) is not None:
                del inner.body[0]
        yield node.name if isinstance(node, DEFINITION) else None, ast.dump(node)
