"""Every exercise proves that its check tells right from wrong, and how."""

import ast
import collections
import functools
import inspect
import re
import subprocess
import sys
import textwrap
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import small_exercises as small
import torch

from kie_course import BadInput, exercises
from kie_course.exercises import EXERCISES, CheckFailed, check, child, diagnosis, hint
from kie_course.exercises.workbook import student_version
from kie_course.notebooks import lessons

EACH = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.id)
SEEDS = (20, 1, 2, 3, 2**40)

# ------------------------------------------------------------ what a lesson holds of it


@functools.cache
def notebook(number):
    (path,) = lessons([number])
    return nbformat.read(path, as_version=4)


@functools.cache
def student_notebook(number):
    return student_version(notebook(number))


def cells_of(exercise, read=notebook):
    """Task, answer and test of an exercise in its lesson, and all code cells."""
    cells = read(exercise.id.partition(".")[0]).cells
    id = exercise.id.replace(".", "-")
    places = [
        i
        for i, cell in enumerate(cells)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == f"ex-{id}"
    ]
    assert places, f"exercise {exercise.id} is in no lesson"
    assert len(places) == 1, f"exercise {exercise.id} is there more than once"
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return *cells[places[0] - 1 : places[0] + 2], code


def answer_in(code, exercise):
    """The exercise's function, with what it needs of the lesson's code and no more."""
    nodes, _ = child.needed(code, exercise.function)
    return child.execute(nodes, exercise.function, {"__name__": "lesson"})


def solution_lines(source):
    inside = re.findall(r"BEGIN SOLUTION\n(.*?)\n *### END SOLUTION", source, re.DOTALL)
    return [line.strip() for part in inside for line in part.splitlines()]


# ------------------------------------------------------------------------ the one proof


def message_of(exercise, answer):
    """What `check` says of an answer; "" if it is right."""
    try:
        check(exercise.id, answer)
    except CheckFailed as failed:
        return str(failed)
    return ""


def faults(exercise, right, blank, monkeypatch):
    """Say what is wrong with an exercise, a line a fault; none: it grades honestly."""
    monkeypatch.setitem(exercises.EXERCISES, exercise.id, exercise)
    found = list(faults_of_form(exercise))
    for seed in SEEDS:
        monkeypatch.setenv("KIE_SEED", str(seed))
        try:
            found += faults_of_inputs(exercise, right, blank, seed)
        except ValueError as error:
            found.append(str(error))
    return found


def faults_of_inputs(exercise, right, blank, seed):
    if "nothing is written here yet" not in message_of(exercise, blank):
        yield "the blank is not told to be blank"
    if message := message_of(exercise, right):
        yield f"the reference is rejected: {message}"
    for wrong in exercise.wrong:
        message = message_of(exercise, diagnosis.define(exercise, wrong.source))
        if not message:
            yield f"{wrong.name} passes"
        elif message != f"{exercise.id}: {wrong.message}":
            yield f"{wrong.name} gets another message: {message}"
    table = diagnosis.reference(exercise, seed)
    if len(table.cases) < 8:
        yield "there are fewer than 8 inputs"
    if "NaN" in str(table.right) or "nan" in str(table.right):
        yield "the oracle gives NaN"
    if table.cases == diagnosis.reference(exercise, seed + 1).cases:
        yield "the seed does not change the inputs"


def faults_of_form(exercise):
    messages = [wrong.message for wrong in exercise.wrong]
    names = [wrong.name for wrong in exercise.wrong]
    if len(names) < 3:
        yield "there are fewer than 3 wrong answers"
    if len({*messages}) < len(messages) or len({*names}) < len(names):
        yield "two wrong answers share a name or a message"
    if not all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names):
        yield "a wrong answer's name is not in kebab-case"
    if not 2 <= len({*exercise.hints}) == len(exercise.hints):
        yield "there are fewer than 2 hints, or two are the same"


def test_the_lessons_of_this_release_have_exercises():
    numbers = collections.Counter(id.partition(".")[0] for id in EXERCISES)
    assert {"00", "06", "07"} <= set(numbers)
    assert sum(numbers.values()) >= 16


@EACH
@pytest.mark.filterwarnings("ignore")  # a wrong answer's 0 / 0
def test_check_tells_right_blank_and_each_wrong_answer_apart(exercise, monkeypatch):
    _, _, _, code = cells_of(exercise)
    _, _, _, blanked = cells_of(exercise, student_notebook)
    right, blank = answer_in(code, exercise), answer_in(blanked, exercise)
    assert faults(exercise, right, blank, monkeypatch) == []


@EACH
def test_oracle_is_no_copy_of_the_reference(exercise):
    _, answer, _, _ = cells_of(exercise)
    oracle = textwrap.dedent(inspect.getsource(exercise.oracle))
    trees = [body_of(source) for source in (oracle, answer.source)]
    assert trees[0] != trees[1]


def body_of(source):
    function = next(n for n in ast.parse(source).body if hasattr(n, "body"))
    described = ast.get_docstring(function) is not None
    return [ast.dump(node) for node in function.body[described:]]


@EACH
def test_no_hint_and_no_message_holds_a_line_of_the_reference(exercise):
    _, answer, _, _ = cells_of(exercise)
    lines = [line for line in solution_lines(answer.source) if len(line) > 8]
    assert lines
    told = [*exercise.hints, exercise.idea, *(w.message for w in exercise.wrong)]
    assert [line for line in lines if any(line in text for text in told)] == []


@EACH
def test_lesson_and_declaration_agree(exercise):
    task, answer, test, code = cells_of(exercise)
    id = exercise.id.replace(".", "-")
    assert task.cell_type == "markdown"
    assert "exercise" in task.metadata.tags
    assert exercise.id in task.source
    assert exercise.title in task.source
    form = {"schema_version": 3, "task": False}
    asks = {"grade": False, "grade_id": f"ex-{id}", "locked": False, "solution": True}
    tests = {"grade": True, "grade_id": f"test-{id}", "locked": True, "solution": False}
    assert answer.metadata.nbgrader == form | asks
    assert test.metadata.nbgrader == form | tests | {"points": exercise.points}
    assert test.source == f'check("{exercise.id}", {exercise.function})'
    assert answer.metadata.jupyter.source_hidden
    assert "hide-input" in answer.metadata.tags
    assert answer.source.count("### BEGIN SOLUTION") == 1
    assert defined_in(answer.source).count(exercise.function) == 1
    others = [name for source in code for name in defined_in(source)]
    assert others.count(exercise.function) == 1, "the lesson defines it too"


def defined_in(source):
    nodes = child._parsed(source).body
    return [name for node in nodes for name in child._names(node)[0]]


@EACH
def test_the_stub_is_a_function_that_says_what_to_write(exercise):
    _, stub, _, _ = cells_of(exercise, student_notebook)
    (function,) = ast.parse(stub.source).body[-1:]
    assert isinstance(function, ast.FunctionDef)
    assert function.name == exercise.function
    assert ast.get_docstring(function)
    assert child._is_stub(function)


def test_no_lesson_holds_an_exercise_that_is_not_declared():
    ids = [
        cell.metadata.nbgrader.grade_id
        for path in lessons()
        for cell in nbformat.read(path, as_version=4).cells
        if "nbgrader" in cell.metadata
    ]
    declared = [
        f"{kind}-{id.replace('.', '-')}" for id in EXERCISES for kind in ("ex", "test")
    ]
    assert sorted(ids) == sorted(declared)


@pytest.mark.parametrize("id", EXERCISES)
def test_wrong_answers_leave_numpys_warnings_on(id):
    """A learner's own 0 / 0 is to be heard after `check`."""
    before = np.geterr()
    diagnosis.reference.__wrapped__(EXERCISES[id], 20)
    assert np.geterr() == before


# --------------------------------------------------- a weakened check is caught by it


def named(exercise, name):
    (wrong,) = [wrong for wrong in exercise.wrong if wrong.name == name]
    return wrong


def square(rng):
    return [([[float(n), n], [n, n]],) for n in rng.integers(1, 9, 8).tolist()]


def fixed(rng):
    return [([[1.0, 2.0], [3.0, n]],) for n in range(8)]


NOT_DIVIDED = named(small.MEANS, "not-divided")
FINE = exercises.Wrong(
    "fine",
    "def column_means(t):\n    return [sum(c) / len(t) for c in zip(*t)]",
    "It is not wrong.",
)
WEAKENED = {
    "the oracle repeats a mistake": (
        {"oracle": diagnosis.define(small.MEANS, NOT_DIVIDED.source)},
        "not-divided passes",
    ),
    "the oracle fails": ({"oracle": lambda table: 1 / 0}, "ZeroDivisionError"),
    "the oracle gives NaN": ({"oracle": lambda table: [float("nan")]}, "gives NaN"),
    "one axis is as good as another": ({"cases": square}, "over-rows passes"),
    "the seed changes nothing": ({"cases": fixed}, "seed does not change"),
    "few inputs": ({"cases": lambda rng: small.MEANS.cases(rng)[:5]}, "fewer than 8"),
    "one message for all": (
        {"wrong": tuple(replace(w, message="No.") for w in small.MEANS.wrong)},
        "share a name or a message",
    ),
    "few wrong answers": ({"wrong": small.MEANS.wrong[:2]}, "fewer than 3"),
    "a wrong answer is right": ({"wrong": (*small.MEANS.wrong, FINE)}, "fine passes"),
    "one hint": ({"hints": ("Think.",)}, "fewer than 2 hints"),
}


@pytest.fixture
def answers():
    scope = {}
    exec(f"{small.HELPER}\n{small.RIGHT['90.1']}", scope)
    right = scope.pop("column_means")
    exec(small.BLANK["90.1"], scope)
    return right, scope["column_means"]


def test_a_sound_exercise_has_no_fault(answers, monkeypatch):
    assert faults(small.MEANS, *answers, monkeypatch) == []


@pytest.mark.parametrize(("change", "fault"), WEAKENED.values(), ids=WEAKENED)
def test_a_weakened_exercise_is_caught(change, fault, answers, monkeypatch):
    weak = replace(small.MEANS, **change)
    assert any(fault in line for line in faults(weak, *answers, monkeypatch))


def test_a_check_that_asserts_nothing_is_caught(answers, monkeypatch):
    monkeypatch.setattr(diagnosis, "judge", lambda *_: diagnosis.Verdict(True, "fine"))
    found = faults(small.MEANS, *answers, monkeypatch)
    assert sum(line.endswith(" passes") for line in found) >= len(small.MEANS.wrong)


# ------------------------------------------------------------- what check and hint say


@pytest.fixture
def means(monkeypatch):
    monkeypatch.setitem(exercises.EXERCISES, "90.1", small.MEANS)
    return small.MEANS


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.setitem(exercises.EXERCISES, "90.2", small.COUNTS)
    return small.COUNTS


def right_means(table):
    return [sum(column) / len(table) for column in zip(*table, strict=True)]


def test_success_is_told_in_one_sentence(means, capsys):
    check("90.1", right_means)
    said = capsys.readouterr().out
    assert said == "90.1 is right (2 points): " + means.idea + "\n"


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple])
def test_arrays_tensors_and_tuples_count_as_lists(means, kind):
    check("90.1", lambda table: kind(right_means(table)))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda t: right_means(t)[:1], "length 1 instead of 2"),
        (lambda t: [m + 1 for m in right_means(t)], "gives [2.0], but [1.0] is right"),
        (lambda t: [[m] for m in right_means(t)], "shape (1, 1) instead of (1,)"),
        (lambda t: (m for m in right_means(t)), "gives a generator, not plain data"),
        (lambda t: None, "None instead of a list"),
        (lambda t: {}[0], "stops with KeyError: 0"),
        (lambda t: right_means([t.pop()]) if len(t) == 1 else right_means(t), "copy"),
        (lambda t: [str(m) for m in right_means(t)], "a text instead of a number"),
        (lambda t: [m + 2e-6 for m in right_means(t)], "1.000002 instead of 1.0 at"),
        (lambda t: [float("nan") for _ in t[0]], "gives [nan]"),
        (lambda t: exit(), "stops with SystemExit"),
    ],
)
def test_an_unknown_mistake_is_shown_on_the_smallest_input(means, answer, said):
    message = message_of(means, answer)
    assert said in message
    assert "\n" not in message
    assert "column_means([[1.0" in message


def test_a_dictionary_is_compared_whatever_its_order(counts):
    check("90.2", lambda words: {w: words.count(w) for w in sorted(words)})
    check("90.2", collections.Counter)
    assert "a text instead of a dict" in message_of(counts, str)


class Equal:
    def __eq__(self, other):
        return True

    def __len__(self):
        return 1


class EqualList(list):
    __eq__ = Equal.__eq__


class EqualDict(dict):
    __eq__ = Equal.__eq__


class EqualArray(np.ndarray):
    __eq__ = Equal.__eq__


class EqualText(str):
    __eq__ = Equal.__eq__
    __hash__ = str.__hash__


IMPOSTORS = [
    Equal(),
    EqualList(),
    EqualDict(),
    EqualText("x"),
    [Equal()],
    [EqualText()],
]
IMPOSTORS += [np.zeros(1).view(EqualArray), np.array([Equal()]), float("nan"), [None]]


@pytest.mark.parametrize("result", IMPOSTORS, ids=lambda r: type(r).__name__)
def test_what_equals_everything_does_not_pass(means, result):
    assert message_of(means, lambda table: result)


def test_true_is_no_number(counts):
    assert message_of(counts, lambda words: dict.fromkeys(words, True))


def test_another_seed_makes_memorised_numbers_fail(means, monkeypatch):
    remembered = {}

    def remember(table):
        return remembered.setdefault(str(table), right_means(table))

    check("90.1", remember)
    check("90.1", lambda table: remembered[str(table)])
    monkeypatch.setenv("KIE_SEED", "21")
    assert "KeyError" in message_of(means, lambda table: remembered[str(table)])


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "²", " 1"])
def test_a_seed_that_is_no_number_is_refused(means, monkeypatch, value):
    monkeypatch.setenv("KIE_SEED", value)
    with pytest.raises(BadInput, match="KIE_SEED"):
        check("90.1", right_means)


def test_an_unknown_exercise_is_refused():
    for ask in (hint, lambda id: check(id, len)):
        with pytest.raises(BadInput, match=r"no exercise .99\.9."):
            ask("99.9")


def test_a_result_instead_of_a_function_is_pointed_out(means):
    assert 'check("90.1", column_means)' in message_of(means, [1.0])


def test_hints_come_one_by_one(means, capsys):
    exercises._hints_given.clear()
    for _ in range(3):
        hint("90.1")
    assert capsys.readouterr().out.splitlines() == [
        "Hint 1 of 2: Which axis goes?",
        "Hint 2 of 2: Divide by the number of rows.",
        "Hint 2 of 2 (the last one): Divide by the number of rows.",
    ]


def test_an_exception_can_be_the_right_result(monkeypatch):
    def refuse(words):
        if not words:
            raise ValueError("no words")
        return small.COUNTS.oracle(words)

    strict = replace(small.COUNTS, oracle=refuse, raises=(ValueError,))
    monkeypatch.setitem(exercises.EXERCISES, "90.2", strict)
    check("90.2", refuse)
    message = message_of(strict, small.COUNTS.oracle)
    assert message == "90.2: count([]) should refuse this input with a ValueError"


def test_importing_the_exercises_is_quick():
    # A grader starts often, and `check` is imported by every lesson.
    program = "import sys, kie_course.exercises; print('torch' in sys.modules)"
    run = [sys.executable, "-c", program]
    assert subprocess.check_output(run, text=True).strip() == "False"
