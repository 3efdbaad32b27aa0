"""The learner's own copy of the lessons: without solutions, never overwritten."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kie_course import BadInput
from kie_course.exercises.grading import by_lesson, cells_of, grade_all
from kie_course.exercises.reports import Grade

if TYPE_CHECKING:
    from nbformat import NotebookNode

MADE = "kie_workbook"
"""Notebook metadata: what the workbook wrote, to tell a learner's edits from it."""


# ---------------------------------------------------------------------- student version


def student_version(lesson: NotebookNode) -> NotebookNode:
    """Give a lesson without solutions and outputs, by nbgrader's own preprocessors.

    Outputs go from all cells: they would answer the questions to predict.
    """
    from nbgrader import preprocessors

    nb = copy.deepcopy(lesson)
    for cell in nb.cells:
        if is_answer(cell):
            _unhide(cell)
    steps = (
        preprocessors.LockCells,
        preprocessors.ClearSolutions,
        preprocessors.ClearOutput,
        preprocessors.CheckCellMetadata,
        preprocessors.ClearHiddenTests,
        preprocessors.ComputeChecksums,
    )
    for step in steps:
        nb, _ = step().preprocess(nb, {})
    # What `refresh` notes about the committed form says nothing about this one.
    for key in ("profile", "sources", "volatile"):
        nb.metadata.get("kie", {}).pop(key, None)
    nb.metadata[MADE] = {"digest": _digest(nb), "cells": [cell.id for cell in nb.cells]}
    return nb


def is_answer(cell: NotebookNode) -> bool:
    """Tell whether a cell is the one in which the learner writes."""
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def _unhide(cell: NotebookNode) -> None:
    cell.metadata.pop("jupyter", None)
    tags = [tag for tag in cell.metadata.pop("tags", []) if tag != "hide-input"]
    if tags:
        cell.metadata["tags"] = tags


def _digest(nb: NotebookNode) -> str:
    """A hash of what can be edited: the cells' text, not outputs and metadata."""
    cells = [[cell.cell_type, cell.source] for cell in nb.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


# ----------------------------------------------------------------------------- workbook


def workbook(folder: str | Path) -> dict[str, str]:
    """Write the student version of all lessons into `folder`, and say what was done.

    Run again after an update of the course, it adds new lessons, replaces those in
    which nothing was edited, and adds to the others the exercises that are new.
    Nothing that was edited is ever overwritten. Returns what was done, by file name.

    Raises:
        BadInput: `folder` is a file.
    """
    from kie_course.notebooks import lessons

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    done = {path.name: _bring(path, folder / path.name) for path in lessons()}
    for name, what in done.items():
        print(f"{name}: {what}")
    return done


def _bring(lesson: Path, target: Path) -> str:
    import nbformat

    # All that nbformat raises for what is no notebook.
    unreadable = (OSError, ValueError, LookupError, TypeError, AttributeError)
    unreadable += (nbformat.ValidationError,)
    new = student_version(nbformat.read(lesson, as_version=4))
    if not target.exists():
        _write(new, target)
        return "written"
    try:
        old = nbformat.read(target, as_version=4)
        made = old.metadata.get(MADE)
        known, digest = (set(made["cells"]), made["digest"]) if made else (set(), "")
    except unreadable:
        return "left as it is: it cannot be read as a notebook"
    if not made:
        return "left as it is: it was not written by this command"
    if digest == new.metadata[MADE]["digest"]:
        return "up to date"
    if _digest(old) == digest:
        _write(new, target)
        return "replaced by the new version: nothing was edited in it"
    added = _add_exercises(old, new, known)
    old.metadata[MADE] = new.metadata[MADE]
    _write(old, target)
    exercises = "exercise" if added == 1 else "exercises"
    return (
        f"kept with your edits, {added or 'no'} new {exercises} added; to get the "
        "lesson's new text, rename your file and run this again"
    )


def _add_exercises(old: NotebookNode, new: NotebookNode, known: set[str]) -> int:
    """Put exercises that `old` never had after its last one; give their number."""
    # What was known and is gone was deleted on purpose.
    known = known | {cell.get("id") for cell in old.cells}
    fresh, task = [], []
    for cell in new.cells:
        if "exercise" in cell.metadata.get("tags", []):
            task = [cell]
        elif "nbgrader" in cell.metadata and cell.id not in known:
            fresh += [*task, cell]
            task = []
    places = [i for i, cell in enumerate(old.cells, 1) if "nbgrader" in cell.metadata]
    place = max(places, default=len(old.cells))
    old.cells[place:place] = fresh
    return sum(map(is_answer, fresh))


def _write(nb: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    import nbformat

    part = path.with_name(f".{path.name}.part")
    nbformat.write(nb, part)
    part.replace(path)


# ----------------------------------------------------------------------------- progress


def progress(folder: str | Path) -> None:
    """Print points by lesson, every exercise that is not right, and what is next.

    Raises:
        BadInput: `folder` is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; `kie-course workbook` makes one")
    grades: list[Grade] = []
    for lesson, exercises in by_lesson().items():
        cells = cells_of(folder, lesson)
        own = list(grade_all([("", exercise, cells) for exercise in exercises]))
        print(_row(lesson, own))
        grades += own
    todo = [grade for grade in grades if not grade.verdict.passed]
    print(_row("all", grades))
    if not todo:
        print("everything is done")
        return
    first = todo[0]
    exercise = first.exercise
    print(f"next: {exercise.id} {exercise.title}: {first.verdict.message}")


def _row(name: str, grades: Sequence[Grade]) -> str:
    right = [grade for grade in grades if grade.verdict.passed]
    started = [g for g in grades if not g.verdict.passed and not g.verdict.blank]
    points = sum(grade.points for grade in right)
    most = sum(grade.exercise.points for grade in grades)
    done = f"{len(right):2} of {len(grades):2} exercises"
    text = f"{name:6} {done}, {points} of {most} points"
    wrong = ", ".join(grade.exercise.id for grade in started)
    return f"{text}; not right yet: {wrong}" if wrong else text
