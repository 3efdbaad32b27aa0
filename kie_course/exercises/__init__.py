"""Exercises that grade honestly: what a lesson asks, checks, hints, wrong answers.

An exercise is declared once, in `lessonNN.py` beside this file. In a notebook,
`check("06.1", align)` says whether the learner's function is right, and if not, why;
`hint("06.1")` gives the next hint. `grading` judges a class by the same declarations,
with the learner's code in a process of its own.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kie_course import SEED, BadInput


@dataclass(frozen=True)
class Wrong:
    """A typical mistake, as a learner would write it."""

    name: str
    """Tag in kebab-case: what `grade` counts over a class."""
    source: str
    """Python that defines the exercise's function wrongly; needs nothing else."""
    message: str
    """One kind sentence that names the idea, never the solution."""


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise: what is asked, and how an answer is judged."""

    id: str
    """Lesson and number, such as "06.1"."""
    title: str
    points: int
    idea: str
    """One sentence: the idea that the exercise asks for."""
    function: str
    """Name of the function that the learner writes."""
    cases: Callable[[np.random.Generator], list[tuple]]
    """Eight or more tuples of arguments, small ones first; plain data and arrays."""
    oracle: Callable
    """Independent, slow, obvious reference on the same data."""
    hints: tuple[str, ...]
    """Two or three, the last one nearly there; none is the solution."""
    wrong: tuple[Wrong, ...]
    """Three or more typical mistakes."""
    tolerance: float = 1e-6
    """Absolute and relative, for numbers that are not whole."""
    raises: tuple[type, ...] = ()
    """Exceptions that the oracle may raise: they are then the right result."""


class CheckFailed(AssertionError):
    """What a learner wrote is not right yet: one sentence says why."""

    def _render_traceback_(self) -> list[str]:
        """Let Jupyter show the sentence alone, without the check's own code."""
        return [str(self)]


def seed() -> int:
    """The seed of the checks' inputs: `KIE_SEED`, else the course's own.

    Raises:
        BadInput: `KIE_SEED` is not a whole number from 0 on.
    """
    text = os.environ.get("KIE_SEED") or str(SEED)
    if not (text.isascii() and text.isdecimal()):
        raise BadInput(f"KIE_SEED must be a whole number from 0 on, not {text!r}")
    return int(text)


def check(id: str, function: Callable) -> None:
    """Say that `function` solves the exercise, in one sentence.

    Raises:
        CheckFailed: it does not; the sentence names the idea that is missing, or
            the smallest input on which it goes wrong.
        BadInput: there is no such exercise.
    """
    from kie_course.exercises.diagnosis import judge, run

    exercise = _exercise(id)
    if not callable(function):
        call = f'check("{id}", {exercise.function})'
        raise CheckFailed(f"{id}: give the function itself, not a result: {call}")
    verdict = judge(exercise, run(exercise, function, seed()), seed())
    if not verdict.passed:
        # The learner's own traceback, if any, would hide the sentence.
        raise CheckFailed(f"{id}: {verdict.message}") from None
    points = "1 point" if exercise.points == 1 else f"{exercise.points} points"
    print(f"{id} is right ({points}): {exercise.idea}")


def hint(id: str) -> None:
    """Print the exercise's next hint; after the last one, the last one again.

    Raises:
        BadInput: there is no such exercise.
    """
    hints = _exercise(id).hints
    _hints_given[id] = _hints_given.get(id, 0) + 1
    number = min(_hints_given[id], len(hints))
    last = " (the last one)" if _hints_given.get(id, 0) > len(hints) else ""
    print(f"Hint {number} of {len(hints)}{last}: {hints[number - 1]}")


_hints_given: dict[str, int] = {}


def _exercise(id: str) -> Exercise:
    if id not in EXERCISES:
        known = ", ".join(EXERCISES) or "none"
        raise BadInput(f"no exercise {id!r}; there is: {known}")
    return EXERCISES[id]


def _collect() -> dict[str, Exercise]:
    """Every exercise of every `lessonNN.py` beside this file, in order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: dict[str, Exercise] = {}
    for name in names:
        if not name.startswith("lesson"):
            continue
        for exercise in importlib.import_module(f"{__name__}.{name}").EXERCISES:
            if exercise.id in found:
                raise ValueError(f"exercise {exercise.id} is declared twice")
            found[exercise.id] = exercise
    return found


# Last, since lessons import the classes above.
EXERCISES: dict[str, Exercise] = _collect()
