"""Two exercises and a lesson that fit a test; notebooks as learners hand them in."""

import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kie_course.exercises import Exercise, Wrong


def _mean_cases(rng):
    tables = [rng.integers(0, 9, (n, 2)).tolist() for n in (3, 4, 5, 6, 7, 8)]
    return [([[1.0]],), ([[1.0, 2.0], [3.0, 5.0]],), *((table,) for table in tables)]


def _column_means(table):
    return [sum(row[i] for row in table) / len(table) for i in range(len(table[0]))]


def _count_cases(rng):
    words = [rng.choice(["to", "be", "or"], n).tolist() for n in (2, 3, 4, 5, 6, 7)]
    return [([],), (["be"],), *((row,) for row in words)]


def _count(words):
    return {word: len([w for w in words if w == word]) for word in words}


MEANS = Exercise(
    id="90.1",
    title="Column means",
    points=2,
    idea="A mean over rows leaves one number a column.",
    function="column_means",
    cases=_mean_cases,
    oracle=_column_means,
    hints=("Which axis goes?", "Divide by the number of rows."),
    wrong=(
        Wrong(
            "over-rows",
            "def column_means(table):\n    return [sum(r) / len(r) for r in table]\n",
            "Each of your numbers belongs to a row: is that the right axis?",
        ),
        Wrong(
            "not-divided",
            "def column_means(table):\n    return [sum(c) for c in zip(*table)]\n",
            "These are sums; a mean is smaller.",
        ),
        Wrong(
            "divided-by-columns",
            "def column_means(table):\n"
            "    return [sum(c) / len(table[0]) for c in zip(*table)]\n",
            "The divisor is not how many numbers were added.",
        ),
    ),
)

COUNTS = Exercise(
    id="90.2",
    title="Count words",
    points=3,
    idea="A dictionary holds a count a word.",
    function="count",
    cases=_count_cases,
    oracle=_count,
    hints=("What is the key?", "Start each count at 0."),
    wrong=(
        Wrong(
            "list-of-pairs",
            "def count(words):\n    return [(w, words.count(w)) for w in words]\n",
            "One count a word, not one a place.",
        ),
        Wrong(
            "seen-only",
            "def count(words):\n    return {w: 1 for w in words}\n",
            "Every word counts once here, however often it comes.",
        ),
        Wrong(
            "off-by-one",
            "def count(words):\n    return {w: words.count(w) - 1 for w in words}\n",
            "Your counts start from -1: what is there before the first?",
        ),
    ),
)

EXERCISES = {exercise.id: exercise for exercise in (MEANS, COUNTS)}

LESSON = "90_small.ipynb"
SETUP = (
    "import os\nimport sys\nimport time\nfrom kie_course.exercises import check, hint"
)
HELPER = "def total(numbers):\n    return sum(numbers)"
HEAVY = "raise SystemExit('a lesson is never trained when it is graded')"
BODIES = {
    "90.1": "    return [total(c) / len(table) for c in zip(*table)]",
    "90.2": "    return {word: words.count(word) for word in words}",
}
HEADS = {
    "90.1": 'def column_means(table):\n    """Mean of each column."""',
    "90.2": 'def count(words):\n    """How often each word comes."""',
}
RIGHT = {id: f"{HEADS[id]}\n{BODIES[id]}" for id in HEADS}
BLANK = {id: f"{HEADS[id]}\n    raise NotImplementedError()" for id in HEADS}


def lesson() -> nbformat.NotebookNode:
    """A lesson as its author writes it, with two exercises."""
    cells = [
        new_markdown_cell("# Small", id="title"),
        new_code_cell(SETUP, id="setup"),
        new_code_cell(HELPER, id="helper"),
    ]
    for exercise in EXERCISES.values():
        cells += exercise_cells(exercise, HEADS[exercise.id], BODIES[exercise.id])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "kie": {}})


def exercise_cells(exercise: Exercise, head: str, body: str) -> list:
    """The three cells of an exercise: task, answer, test."""
    id = exercise.id.replace(".", "-")
    form = {"schema_version": 3, "task": False}
    answer = form | {"grade": False, "locked": False, "solution": True}
    test = form | {"grade": True, "locked": True, "solution": False}
    source = f"{head}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
    call = f'check("{exercise.id}", {exercise.function})'
    task = f"### {exercise.id} {exercise.title}"
    return [
        new_markdown_cell(task, id=f"task-{id}", metadata={"tags": ["exercise"]}),
        new_code_cell(
            source,
            id=f"ex-{id}",
            metadata={
                "nbgrader": answer | {"grade_id": f"ex-{id}"},
                "jupyter": {"source_hidden": True},
                "tags": ["hide-input"],
            },
        ),
        new_code_cell(
            call,
            id=f"test-{id}",
            metadata={
                "nbgrader": test | {"grade_id": f"test-{id}", "points": exercise.points}
            },
        ),
    ]


def hand_in(folder: Path, answers: dict[str, str], edit=None) -> Path:
    """Write a notebook as a learner would: cells as text, then `edit` on the list."""
    cells = [SETUP, HELPER, HEAVY]
    for id, answer in answers.items():
        cells += [answer, f'check("{id}", {EXERCISES[id].function})']
    cells = edit(cells) if edit else cells
    rows = [
        {"cell_type": "code", "source": source, "metadata": {}, "outputs": []}
        for source in cells
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LESSON
    book = {"cells": rows, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(book), encoding="utf-8")
    return path
