"""Grade notebooks by the course's own checks, whatever became of their check cells.

A learner's function is found by its name in the notebook's code and run apart, by
`sandbox`; only its plain results come back and are judged here.
"""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kie_course import BadInput, exercises
from kie_course.exercises import Exercise, reports
from kie_course.exercises.diagnosis import Verdict, judge, reference
from kie_course.exercises.reports import Grade
from kie_course.exercises.sandbox import LIMITS, Limits, run_apart

LESSON = re.compile(r"(\d\d[a-z]?)_.*\.ipynb")
LARGEST_NOTEBOOK = 100 * 2**20


# ------------------------------------------------------------------------- one notebook


def read_cells(path: Path) -> list[str]:
    """Give the code cells of a notebook, however much of the rest is broken.

    Raises:
        BadInput: the file is missing, too large or no notebook.
    """
    try:
        if not path.is_file():
            raise BadInput(f"{path.name}: no such file")
        if path.stat().st_size > LARGEST_NOTEBOOK:
            raise BadInput(f"{path.name} is larger than 100 MB: clear its outputs")
        cells = json.loads(path.read_bytes())["cells"]
        code = [cell for cell in cells if cell.get("cell_type") == "code"]
        return [_text(cell.get("source", "")) for cell in code]
    except OSError as error:
        raise BadInput(f"{path.name}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path.name} is not a notebook of format 4") from None


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


Task = tuple[str, Exercise, list[str] | str]
"""Student, exercise, and the notebook's code cells, or what is wrong with it."""


def grade_one(task: Task, seed: int, limits: Limits, hidden: Sequence[Path]) -> Grade:
    """Grade one exercise of one notebook."""
    student, exercise, cells = task
    if isinstance(cells, str):
        return Grade(student, exercise, Verdict(False, cells))
    try:
        run = run_apart(cells, exercise, seed, limits, [*hidden, *_solutions()])
        verdict = judge(exercise, run.outcomes, seed, run.ended)
    except Exception as error:  # one exercise never stops the class
        message = f"not graded, look at it by hand: {type(error).__name__}: {error}"
        return Grade(student, exercise, Verdict(False, message))
    return Grade(student, exercise, verdict, run.source)


def _solutions() -> list[Path]:
    from kie_course.data import home

    return [home() / "notebooks"]


def lesson_of(exercise: Exercise) -> str:
    """The number of an exercise's lesson."""
    return exercise.id.rpartition(".")[0]


def by_lesson() -> dict[str, list[Exercise]]:
    """All exercises, by the number of their lesson, in order."""
    found = collections.defaultdict(list)
    for exercise in exercises.EXERCISES.values():
        found[lesson_of(exercise)].append(exercise)
    return dict(sorted(found.items()))


def check_file(path: str | Path, limits: Limits = LIMITS) -> bool:
    """Check all exercises of one notebook, a line each; tell whether all are right.

    Raises:
        BadInput: no such file, no notebook, or no lesson that has exercises.
    """
    path = Path(path)
    match = LESSON.fullmatch(path.name)
    mine = by_lesson().get(match[1]) if match else None
    if not mine:
        known = ", ".join(by_lesson())
        raise BadInput(
            f"{path}: the file's name must begin with the number of a lesson that has "
            f"exercises, as in 06_topic.ipynb; there is {known}"
        )
    cells = read_cells(path)
    tasks = [("", exercise, cells) for exercise in mine]
    grades = list(grade_all(tasks, limits))
    for grade in grades:
        print(line(grade))
    return all(grade.verdict.passed for grade in grades)


def line(grade: Grade) -> str:
    """One exercise's result, as a line to print."""
    exercise, verdict = grade.exercise, grade.verdict
    score = f"{grade.points}/{exercise.points}"
    return f"{exercise.id:6} {score:>4}  {exercise.title}: {verdict.message}"


# ------------------------------------------------------------------------ a whole class


def grade(
    folder: str | Path,
    out: str | Path,
    limits: Limits = LIMITS,
    workers: int | None = None,
) -> list[Grade]:
    """Grade `folder/STUDENT/NN_topic.ipynb` into `out`, using all cores.

    Writes `grades.csv`, `misconceptions.csv` and a page `STUDENT.html` each, and prints
    a summary. Inputs come from the seed `KIE_SEED`, else from the course's own.

    Raises:
        BadInput: `folder` holds no student, `out` is inside it, or a bad `KIE_SEED`.
    """
    folder, out = Path(folder), Path(out)
    exercises.seed()  # a bad one is refused before anything is written
    students = _students(folder, out)
    found = [
        (student.name, exercise, cells)
        for student in students
        for exercise, cells in _submission(student)
    ]
    out.mkdir(parents=True, exist_ok=True)
    grades = list(_progress(grade_all(found, limits, [folder, out], workers), found))
    print(reports.write(out, grades))
    return grades


def _students(folder: Path, out: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    if out.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"{out} must not lie in {folder}: it would count as a student")
    if not exercises.EXERCISES:
        raise BadInput("the course has no exercises: install the package again")
    students = sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
    if not students:
        raise BadInput(f"{folder} holds no student: expected STUDENT/NN_topic.ipynb")
    return students


def _submission(student: Path) -> Iterator[tuple[Exercise, list[str] | str]]:
    """Each exercise with the code cells of its notebook, or with what is wrong."""
    for lesson, mine in by_lesson().items():
        cells = cells_of(student, lesson)
        for exercise in mine:
            yield exercise, cells


def cells_of(folder: Path, lesson: str) -> list[str] | str:
    """Give the code cells of a lesson's notebook in a folder, or what is wrong."""
    try:
        return read_cells(find_notebook(folder, lesson))
    except BadInput as error:
        return str(error)


def find_notebook(folder: Path, lesson: str) -> Path:
    """Give a lesson's notebook in a folder: of several, the one with the right name.

    Raises:
        BadInput: there is none, or several and none has the lesson's own name.
    """
    from kie_course.notebooks import lessons

    found = sorted(folder.glob(f"{lesson}_*.ipynb"))
    names = {path.name for path in lessons()}
    own = [path for path in found if path.name in names]
    if not found:
        raise BadInput(f"there is no notebook {lesson}_*.ipynb")
    if len(own or found) > 1:
        several = ", ".join(path.name for path in found)
        raise BadInput(f"there are several notebooks of lesson {lesson}: {several}")
    return (own or found)[0]


def grade_all(
    tasks: Sequence[Task],
    limits: Limits = LIMITS,
    hidden: Sequence[Path] = (),
    workers: int | None = None,
) -> Iterator[Grade]:
    """Grade all, in order. Threads do: each waits for a process of its own."""
    seed = exercises.seed()
    for exercise in {exercise for _, exercise, _ in tasks}:
        reference(exercise, seed)  # once, before the threads ask for it
    with ThreadPoolExecutor(workers or _cores()) as pool:
        yield from pool.map(lambda task: grade_one(task, seed, limits, hidden), tasks)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _progress(grades: Iterator[Grade], tasks: Sequence) -> Iterator[Grade]:
    from tqdm import tqdm

    return tqdm(grades, "grade", total=len(tasks), unit="exercise", disable=None)
