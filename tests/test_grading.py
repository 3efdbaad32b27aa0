"""Grading a class: nobody is mis-graded, and nothing that is handed in stops it."""

import csv
import json
import os
import time
import tracemalloc
from pathlib import Path

import nbformat
import pytest
import small_exercises as small

from kie_course import BadInput, exercises, notebooks
from kie_course.exercises import child
from kie_course.exercises.grading import check_file, grade
from kie_course.exercises.sandbox import Limits, run_apart
from kie_course.exercises.workbook import student_version

COURSE = exercises.EXERCISES
LIMITS = Limits(cpu=2, wall=60, memory=2**30)


@pytest.fixture(autouse=True)
def two_exercises(monkeypatch):
    monkeypatch.setattr(exercises, "EXERCISES", small.EXERCISES)


def graded(folder, out, **options):
    """Points and messages by student and exercise, as the table holds them."""
    grade(folder, out, **{"limits": LIMITS} | options)
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    points = {(row["student"], row["exercise"]): int(row["points"]) for row in rows}
    messages = {(row["student"], row["exercise"]): row["message"] for row in rows}
    return points, messages


# ------------------------------------------------------------- what learners hand in

MEANS = "90.1"
SAME = "class Same:\n    __eq__ = lambda *_: True\n    __len__ = lambda _: 1\n"


def body(*lines):
    """The first exercise, answered with these lines."""
    return small.HEADS[MEANS] + "".join(f"\n    {line}" for line in lines)


REFERENCE = small.RIGHT[MEANS]
WRONG = {wrong.name: wrong for wrong in small.MEANS.wrong}

# Kind of answer to the first exercise: its cell, points, and part of the message.
ANSWERS = {
    "reference": (REFERENCE, 2, "right"),
    "blank": (small.BLANK[MEANS], 0, "nothing is written"),
    **{name: (wrong.source, 0, wrong.message) for name, wrong in WRONG.items()},
    "unknown mistake": (body("return [0.5]"), 0, "gives [0.5], but [1.0] is right"),
    "arrays": (f"import numpy as np\n{body('return np.mean(table, axis=0)')}", 2, ""),
    "lambda": ("column_means = lambda t: [sum(c) / len(t) for c in zip(*t)]", 2, ""),
    "magics": (f"%matplotlib inline\n!ls\n{REFERENCE}\ncolumn_means?", 2, "right"),
    "timed": (f"%%time\n{REFERENCE}", 2, "right"),
    "asks in a comment": (
        body("sums = [total(c) for c in zip(*table)]", "n = len(table)  # rows?",
             "return [s / n for s in sums]"), 2, "right",
    ),
    "asks in its docstring, beside a magic": (
        "%matplotlib inline\n"
        + body('"""What is the mean?', "Of each column", '"""',
               "return [total(c) / len(table) for c in zip(*table)]"), 2, "right",
    ),
    "tries it out at length": (
        f"import numpy as np\n{REFERENCE}\nfor _ in range(10**9):\n"
        "    column_means(np.ones((50, 50)).tolist())", 2, "right",
    ),
    "a line that begins with a sign": (
        body("return [total(c) / (9 * len(table)", "    % (8 * len(table)))",
             "    for c in zip(*table)]"), 2, "right",
    ),
    "prints": (body("print('x' * 10**6)", "return [sum(c) / len(table) for c in "
                    "zip(*table)]"), 2, "right"),
    "own cell fails": (f"1 / 0\n{REFERENCE}\nprint(model.train())", 2, "right"),
    "no end": (body("while True: pass"), 0, "did not end within 2 s of computing"),
    "no end outside": (f"{REFERENCE}\nwhile True: pass", 2, "right"),
    "no end in a table": (
        f"memo = {{}}\nwhile True: memo[0] = 1\n{body('return memo')}", 0,
        "did not end within",
    ),
    "8 GB list": (body("return [0] * 10**9"), 0, "too much memory"),
    "8 GB list outside": (f"x = [0] * 10**9\n{REFERENCE}", 2, "right"),
    "syntax error": (REFERENCE.replace(":", "", 1), 0, "expected ':'"),
    "fork": (body("os.fork()"), 0, "stops with PermissionError"),
    "fork bomb": (body("while True: os.fork()"), 0, "stops with PermissionError"),
    "exit": (body("os._exit(0)"), 0, "it ended the whole program"),
    "exit outside": (f"{REFERENCE}\nos._exit(0)", 2, "right"),
    "exit beside": (
        f"{body('return os.sep')}\nos._exit(0)", 0, "it ended the whole program"
    ),
    "sys.exit": (body("sys.exit()"), 0, "stops with SystemExit"),
    "kill the grader": (body("os.kill(os.getppid(), 9)"), 0, "PermissionError"),
    "crash": (body("os.abort()"), 0, "it crashed (SIGABRT)"),
    "endless recursion": (body("return column_means(table)"), 0, "RecursionError"),
    "asks": (body("return input()"), 0, "stops with EOFError"),
    "equals everything": (SAME + body("return Same()"), 0, "gives a Same, not plain"),
    "holds one that does": (SAME + body("return [Same()]"), 0, "gives a Same"),
    "imports the checks": (
        body("from kie_course.exercises.diagnosis import reference"), 0,
        "stops with PermissionError",
    ),
    "reads the solutions": (
        body("import kie_course", "folder = kie_course.__path__[0] + '/exercises'",
             "return open(folder + '/lesson06.py').read()"), 0, "PermissionError",
    ),
    "starts a process": (
        body("import subprocess", "return subprocess.check_output('true')"), 0,
        "stops with PermissionError",
    ),
    "goes to the network": (
        body("import socket", "socket.create_connection(('127.0.0.1', 9))"), 0,
        "stops with PermissionError",
    ),
    "nan": (body("return [float('nan')] * len(table[0])"), 0, "gives [nan]"),
    "no function": ("column_means = 3", 0, "column_means is no function"),
    "huge result": (body("return ['x' * 3 * 10**7]"), 0, "larger than 16 MB"),
    "nested without end": (body("x = []", "x.append(x)", "return x"), 0, "Recursion"),
    "changes its input": (
        body("result = [total(c) / len(table) for c in zip(*table)]",
             "table.clear()", "return result"), 0, "work on a copy",
    ),
}  # fmt: skip

# What becomes of the notebook's cells: set-up, helper, training, and two a exercise.
EDITS = {
    "check cells deleted": lambda cells: [c for c in cells if "check(" not in c],
    "check cells edited": lambda cells: [
        "print('all right')" if c.startswith("check(") else c for c in cells
    ],
    "cells reordered": lambda cells: cells[::-1],
    "cells that need each other reordered": lambda cells: [
        small.RIGHT[MEANS].replace("def", "@same\ndef"),
        "same = total and (lambda f: f)",
        *cells[5:], *cells[:3]
    ],
    "check redefined": lambda cells: ["def check(*_): return True", *cells],
    "check replaced": lambda cells: [
        "import kie_course.exercises as e\ne.check = print", *cells
    ],
    "a helper redefined later": lambda cells: [*cells, "def total(numbers): return 0"],
    "syntax error elsewhere": lambda cells: ["for for", *cells, "def total("],
    "an endless cell elsewhere": lambda cells: ["while True: pass", *cells],
    "stub left below": lambda cells: [*cells, small.BLANK[MEANS]],
    "written twice": lambda cells: [WRONG["over-rows"].source, *cells],
    "cells as lists": lambda cells: [c.splitlines(keepends=True) for c in cells],
}  # fmt: skip


def without_notebook(folder):
    folder.mkdir()


def broken(text):
    def write(folder):
        folder.mkdir()
        (folder / small.LESSON).write_bytes(text)

    return write


FILES = {
    "no notebook": (without_notebook, "there is no notebook 90_*.ipynb"),
    "empty file": (broken(b""), "is not a notebook"),
    "no JSON": (broken(b"{"), "is not a notebook"),
    "other JSON": (broken(b"[1]"), "is not a notebook"),
    "odd cells": (broken(b'{"cells": [1]}'), "is not a notebook"),
    "no text": (broken(b'{"cells": [{"cell_type": "code", "source": 1}]}'), "is not"),
    "deep JSON": (broken(b"[" * 100_000), "is not a notebook"),
    "no cells": (broken(b'{"cells": []}'), "no cell of the notebook defines"),
    "not UTF-8": (broken(b"\xff\xfe\xfa"), "is not a notebook"),
    "zeros": (
        broken(json.dumps({"cells": [{"cell_type": "code", "source": "\0"}]}).encode()),
        "no cell of the notebook defines",
    ),
}


def write_class(folder, times):
    """Hand in every kind `times` times; give what each student should get."""
    expected = {}
    for n in range(times):
        for kind, (answer, points, message) in ANSWERS.items():
            answers = {MEANS: answer, "90.2": small.RIGHT["90.2"]}
            small.hand_in(folder / f"{kind} {n}", answers)
            expected[f"{kind} {n}"] = (points, 3, message)
        for kind, edit in EDITS.items():
            small.hand_in(folder / f"{kind} {n}", small.RIGHT, edit)
            expected[f"{kind} {n}"] = (2, 3, "right")
        for kind, (write, message) in FILES.items():
            write(folder / f"{kind} {n}")
            expected[f"{kind} {n}"] = (0, 0, message)
    return expected


@pytest.mark.slow
def test_two_hundred_submissions_are_all_graded_right(tmp_path, capsys):
    folder, out = tmp_path / "class", tmp_path / "out"
    expected = write_class(folder, 4)
    assert len(expected) >= 200
    start = time.perf_counter()
    points, messages = graded(folder, out)
    seconds = time.perf_counter() - start
    got = {s: (points[s, MEANS], points[s, "90.2"]) for s in expected}
    assert got == {s: (first, second) for s, (first, second, _) in expected.items()}
    for student, (_, _, message) in expected.items():
        assert message in messages[student, MEANS], student
    assert {p.stem for p in out.glob("*.html")} == set(expected)
    with capsys.disabled():
        print(
            f"\n{len(expected)} submissions of 2 exercises in {seconds:.0f} s: "
            f"{seconds / len(expected):.2f} s each, with {os.cpu_count()} cores"
        )


@pytest.mark.parametrize("huge", ["x" * 2**25, [0] * 2**25], ids=["text", "list"])
def test_a_huge_result_is_refused_before_it_is_written_out(huge):
    tracemalloc.start()
    outcome = child.call(lambda: huge, [])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcome == {"odd": "result larger than 16 MB"}
    assert peak < 2**20


def test_a_result_is_huge_by_the_sum_of_its_parts():
    outcome = child.call(lambda: ["x" * 2**20] * 16, [])
    assert outcome == {"odd": "result larger than 16 MB"}


def test_graded_again_a_set_has_the_same_order():
    cell = body("return list({str(n) for n in range(9)})")
    exercise = small.EXERCISES[MEANS]
    again = [run_apart([cell], exercise, 20, LIMITS).outcomes for _ in range(2)]
    assert again[0] == again[1]
    assert len(again[0][0]["value"]) == 9


def test_two_workers_are_faster_than_one(tmp_path, capsys):
    for n in range(20):
        small.hand_in(tmp_path / "class" / f"s{n}", small.RIGHT)
    seconds = []
    for workers in (1, 2):
        start = time.perf_counter()
        points, _ = graded(tmp_path / "class", tmp_path / f"{workers}", workers=workers)
        seconds.append(time.perf_counter() - start)
        assert sum(points.values()) == 20 * 5
    with capsys.disabled():  # what it says depends on who else computes
        print(f"\ntwo workers are {seconds[0] / seconds[1]:.1f} times as fast as one")


def test_the_lessons_get_full_marks_and_their_workbook_none(tmp_path, monkeypatch):
    monkeypatch.setattr(exercises, "EXERCISES", COURSE)
    for path in notebooks.lessons():
        lesson = nbformat.read(path, as_version=4)
        for student, book in (("full", lesson), ("blank", student_version(lesson))):
            (tmp_path / "c" / student).mkdir(parents=True, exist_ok=True)
            nbformat.write(book, tmp_path / "c" / student / path.name)
    points, messages = graded(tmp_path / "c", tmp_path / "out", limits=Limits())
    for exercise in COURSE.values():
        full = points["full", exercise.id]
        assert full == exercise.points, messages["full", exercise.id]
        assert points["blank", exercise.id] == 0
        assert messages["blank", exercise.id] == "nothing is written here yet"


# ------------------------------------------------------------------------- tampering


def test_sleep_costs_its_exercise_only(tmp_path):
    answer = body("time.sleep(600)")
    small.hand_in(tmp_path / "c" / "s", {MEANS: answer, "90.2": small.RIGHT["90.2"]})
    limits = Limits(cpu=2, wall=5)
    points, messages = graded(tmp_path / "c", tmp_path / "out", limits=limits)
    assert "did not end within 5 s" in messages["s", MEANS]
    assert points["s", MEANS] == 0


def test_nothing_is_written_outside_and_nobody_else_is_read(tmp_path):
    small.hand_in(tmp_path / "c" / "good", small.RIGHT)
    good = tmp_path / "c" / "good" / small.LESSON
    table = tmp_path / "out" / "grades.csv"
    attacks = {
        "writes": body(f"open({str(table)!r}, 'w').write('x')"),
        "removes": body(f"os.remove({str(good)!r})"),
        "renames": body(f"os.rename({str(good)!r}, 'x')"),
        "links": body(f"os.link({str(good)!r}, 'x')"),
        "reads": body(f"return open({str(good)!r}).read()"),
        "lists": body(f"return os.listdir({str(good.parent)!r})"),
        "through a link": body(
            f"os.symlink({str(good)!r}, 'x')", "return open('x').read()"
        ),
        "through a folder": body(
            f"d = os.open({str(good.parent.parent)!r}, os.O_RDONLY)",
            "return os.open('good', os.O_RDONLY, dir_fd=d)",
        ),
        "in memory": body("open(f'/proc/{os.getppid()}/mem', 'rb')"),
    }
    for name, answer in attacks.items():
        small.hand_in(tmp_path / "c" / name, {MEANS: answer})
    before = good.read_bytes()
    points, messages = graded(tmp_path / "c", tmp_path / "out")
    assert good.read_bytes() == before
    assert points["good", MEANS] == 2
    for name in attacks:
        assert "stops with PermissionError" in messages[name, MEANS], name


def test_own_files_may_be_written(tmp_path):
    answer = body(
        "with open('x.txt', 'w') as file: file.write('1')",
        "os.remove('x.txt')",
        "return [total(c) / len(table) for c in zip(*table)]",
    )
    small.hand_in(tmp_path / "c" / "s", {MEANS: answer})
    points, _ = graded(tmp_path / "c", tmp_path / "out")
    assert points["s", MEANS] == 2


def test_forged_outcomes_do_not_count(tmp_path):
    lies = '{"source": ""}\\n' + '{"value": {}}\\n' * 8
    answer = "OPEN = [n for n in range(3, 9) if os.path.exists(f'/proc/self/fd/{n}')]\n"
    answer += body("for n in OPEN:", f"    os.write(n, b'{lies}')", "os._exit(0)")
    small.hand_in(tmp_path / "c" / "s", {MEANS: answer})
    points, _ = graded(tmp_path / "c", tmp_path / "out")
    assert points["s", MEANS] == 0


def test_another_seed_unmasks_memorised_results(tmp_path, monkeypatch):
    from kie_course.exercises.diagnosis import reference

    table = reference(small.MEANS, 20)
    known = [
        (case[0], right["value"])
        for case, right in zip(table.cases, table.right, strict=True)
    ]
    answer = body(f"return next(y for x, y in {known} if x == table)")
    small.hand_in(tmp_path / "c" / "s", {MEANS: answer})
    points, _ = graded(tmp_path / "c", tmp_path / "first")
    assert points["s", MEANS] == 2
    monkeypatch.setenv("KIE_SEED", "21")
    points, messages = graded(tmp_path / "c", tmp_path / "second")
    assert points["s", MEANS] == 0
    assert "StopIteration" in messages["s", MEANS]


# --------------------------------------------------------------------------- reports


def test_misconceptions_are_counted(tmp_path):
    kinds = ["over-rows"] * 3 + ["not-divided"]
    for n, kind in enumerate(kinds):
        small.hand_in(tmp_path / "c" / f"s{n}", {MEANS: WRONG[kind].source})
    grade(tmp_path / "c", tmp_path / "out", LIMITS)
    rows = (tmp_path / "out" / "misconceptions.csv").read_text().splitlines()
    assert rows == [
        "exercise,mistake,count,students,message",
        f"90.1,over-rows,3,4,{WRONG['over-rows'].message}",
        f"90.1,not-divided,1,4,{WRONG['not-divided'].message}",
    ]


def test_the_page_shows_the_answer_and_escapes_it(tmp_path):
    answer = body("return '<script>alert(1)</script>'")
    small.hand_in(tmp_path / "c" / "<b>", {MEANS: answer})
    grade(tmp_path / "c", tmp_path / "out", LIMITS)
    page = (tmp_path / "out" / "<b>.html").read_text(encoding="utf-8")
    assert "Feedback for &lt;b&gt;" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "0 of 5 points" in page
    assert small.MEANS.idea in page


def test_the_right_name_decides_between_two_notebooks(tmp_path, monkeypatch):
    small.hand_in(tmp_path / "c" / "s", small.RIGHT)
    copy = tmp_path / "c" / "s" / "90_small (1).ipynb"
    copy.write_bytes((tmp_path / "c" / "s" / small.LESSON).read_bytes())
    points, messages = graded(tmp_path / "c", tmp_path / "first")
    assert "several notebooks" in messages["s", MEANS]
    own = lambda *_: [Path(small.LESSON)]  # noqa: E731
    monkeypatch.setattr("kie_course.notebooks.lessons", own)
    points, _ = graded(tmp_path / "c", tmp_path / "second")
    assert points["s", MEANS] == 2


def test_check_file_prints_a_line_an_exercise(tmp_path, capsys):
    answers = {MEANS: small.RIGHT[MEANS], "90.2": small.BLANK["90.2"]}
    assert not check_file(small.hand_in(tmp_path, answers), LIMITS)
    assert capsys.readouterr().out.splitlines() == [
        "90.1    2/2  Column means: right",
        "90.2    0/3  Count words: nothing is written here yet",
    ]
    assert check_file(small.hand_in(tmp_path, small.RIGHT), LIMITS)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("90_small.ipynb", None, "no such file"),
        ("90_small.ipynb", "x", "is not a notebook"),
        ("notes.ipynb", "{}", "must begin with the number of a lesson"),
        ("91_other.ipynb", "{}", "there is 90"),
    ],
)
def test_check_file_refuses_what_is_no_lesson(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=said):
        check_file(tmp_path / name)


def test_grade_refuses_a_folder_without_students(tmp_path):
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="holds no student"):
        grade(tmp_path, tmp_path.with_name("out"))
    with pytest.raises(BadInput, match="no such folder"):
        grade(tmp_path / "none", tmp_path.with_name("out"))
    with pytest.raises(BadInput, match="must not lie in"):
        grade(tmp_path, tmp_path / "out")


def test_a_bad_seed_stops_before_anything_is_written(tmp_path, monkeypatch):
    small.hand_in(tmp_path / "c" / "s", small.RIGHT)
    monkeypatch.setenv("KIE_SEED", "x")
    with pytest.raises(BadInput, match="KIE_SEED"):
        grade(tmp_path / "c", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_torch_fits_the_limits(tmp_path):
    answer = f"import torch\n{body('return torch.tensor(table).float().mean(0)')}"
    small.hand_in(tmp_path / "c" / "s", {MEANS: answer})
    points, messages = graded(tmp_path / "c", tmp_path / "out", limits=Limits())
    assert points["s", MEANS] == 2, messages
