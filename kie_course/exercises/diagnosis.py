"""Compare what a function gave with what is right, and say kindly what differs."""

from __future__ import annotations

import functools
import itertools
import json
import math
import reprlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kie_course.exercises import Exercise
from kie_course.exercises.child import call, pack, unpack

Outcome = dict[str, Any]
"""What `child.call` tells of one call."""


@dataclass(frozen=True)
class Verdict:
    """How an answer was judged, and why in one sentence."""

    passed: bool
    message: str
    mistake: str | None = None
    """Name of the typical mistake that it is."""
    blank: bool = False
    """Nothing was written yet."""


@dataclass(frozen=True)
class Reference:
    """What an exercise's oracle and its wrong answers give on the same inputs."""

    cases: list
    """Packed arguments, as `child.call` takes them."""
    right: list[Outcome]
    wrong: dict[str, list[Outcome]]


@functools.lru_cache(maxsize=256)
def reference(exercise: Exercise, seed: int) -> Reference:
    """Draw an exercise's inputs and run its oracle and wrong answers on them.

    Raises:
        ValueError: the oracle fails on an input, or changes it.
    """
    rng = np.random.default_rng([seed, *exercise.id.encode()])
    cases = [pack(list(arguments)) for arguments in exercise.cases(rng)]
    right = [call(exercise.oracle, arguments) for arguments in cases]
    legal = {kind.__name__ for kind in exercise.raises}
    for outcome in right:
        if "changed" in outcome or not ("value" in outcome or _is(outcome, legal)):
            raise ValueError(f"the oracle of exercise {exercise.id} gives {outcome}")
    # A wrong answer's 0 / 0 warns nobody, and what it silences is heard again.
    with warnings.catch_warnings(), np.errstate():
        warnings.simplefilter("ignore")
        wrong = {
            answer.name: [call(define(exercise, answer.source), case) for case in cases]
            for answer in exercise.wrong
        }
    return Reference(cases, right, wrong)


def define(exercise: Exercise, source: str) -> Callable:
    """Give the exercise's function as `source` defines it."""
    namespace: dict[str, Any] = {"__name__": "answer"}
    exec(compile(source, f"<answer to {exercise.id}>", "exec"), namespace)
    return namespace[exercise.function]


def run(exercise: Exercise, function: Callable, seed: int) -> list[Outcome]:
    """Call a function in this process, on copies of the exercise's inputs."""
    return [call(function, arguments) for arguments in reference(exercise, seed).cases]


# -------------------------------------------------------------------------------- judge


def judge(
    exercise: Exercise, outcomes: Sequence[Outcome], seed: int, ended: str = ""
) -> Verdict:
    """Judge what a function gave on the exercise's inputs, in order.

    `ended` says why the outcomes stop before the inputs do.
    """
    table = reference(exercise, seed)
    if outcomes and _is(outcomes[0], {"NotImplementedError"}):
        return Verdict(False, "nothing is written here yet", blank=True)
    if ended or len(outcomes) != len(table.cases):
        case = table.cases[min(len(outcomes), len(table.cases) - 1)]
        where = f" on {_called(exercise, case)}" if outcomes else ""
        return Verdict(False, f"{ended or 'it stops early'}{where}")
    tolerance = exercise.tolerance
    same = functools.partial(_same_outcome, tolerance=tolerance)
    differing = [
        i
        for i, (right, got) in enumerate(zip(table.right, outcomes, strict=True))
        if not same(right, got)
    ]
    if not differing:
        return Verdict(True, "right")
    for answer in exercise.wrong:
        if all(map(same, table.wrong[answer.name], outcomes)):
            return Verdict(False, answer.message, answer.name)
    smallest = min(differing, key=lambda i: len(json.dumps(table.cases[i])))
    case, right = table.cases[smallest], table.right[smallest]
    return Verdict(False, _explain(exercise, case, right, outcomes[smallest]))


def _is(outcome: Outcome, names: set[str]) -> bool:
    return bool(names & set(outcome.get("error", [])))


def _same_outcome(right: Outcome, got: Outcome, tolerance: float) -> bool:
    if right.get("changed") != got.get("changed"):
        return False
    if "error" in right:
        return right["error"][0] in got.get("error", [])
    if "value" in right and "value" in got:
        return same(right["value"], got["value"], tolerance)
    return "odd" in right and right["odd"] == got.get("odd")


def same(right: Any, got: Any, tolerance: float) -> bool:
    """Tell whether two plain values agree; NaN agrees with NaN alone."""
    if _kind(right) != _kind(got):
        return False
    if isinstance(right, list):
        return len(right) == len(got) and all(
            same(a, b, tolerance) for a, b in zip(right, got, strict=True)
        )
    if isinstance(right, dict):
        rows, others = _sorted(right), _sorted(got)
        return same(rows, others, tolerance)
    if _kind(right) == "number":
        if isinstance(right, int) and isinstance(got, int):
            return right == got
        if math.isnan(right) or math.isnan(got):
            return math.isnan(right) and math.isnan(got)
        return math.isclose(right, got, rel_tol=tolerance, abs_tol=tolerance)
    return right == got


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return next(iter(value))
    names = {bool: "truth value", int: "number", float: "number", str: "text"}
    return "None" if value is None else names.get(type(value), "list")


def _sorted(value: dict) -> list:
    return sorted(next(iter(value.values())), key=json.dumps)


# ------------------------------------------------------------------------------ explain


def _explain(exercise: Exercise, case: Any, right: Outcome, got: Outcome) -> str:
    """One sentence about one input on which the function goes wrong."""
    called = _called(exercise, case)
    if "error" in right:
        expected = f"should refuse this input with a {right['error'][0]}"
        if "error" in got:
            return f"{called} {expected}, not with {_raised(got)}"
        return f"{called} {expected}"
    if _is(got, {"MemoryError"}):
        return f"{called} needs too much memory"
    if "error" in got:
        return f"{called} stops with {_raised(got)}"
    expected = _show(right["value"])
    if "odd" in got:
        return f"{called} gives a {got['odd']}, not plain data such as {expected}"
    if same(right["value"], got["value"], exercise.tolerance):
        return f"{called} changes its arguments: work on a copy of them"
    why = _difference(right["value"], got["value"], exercise.tolerance)
    shown = _show(got["value"])
    return f"{called} gives {shown}, but {expected} is right: {why}"


def _raised(outcome: Outcome) -> str:
    text = f": {outcome['text']}" if outcome["text"] else ""
    return f"{outcome['error'][0]}{text}"


def _difference(right: Any, got: Any, tolerance: float, where: str = "") -> str:
    """Name the first thing in which two plain values differ."""
    at = f" at {where}" if where else ""
    if _kind(right) != _kind(got):
        if got is None and not where:
            return f"None instead of a {_kind(right)}; is a `return` missing?"
        return f"a {_kind(got)} instead of a {_kind(right)}{at}".replace(
            "a None", "None"
        )
    if isinstance(right, list):
        shapes = _shape(right), _shape(got)
        if shapes[0] != shapes[1] and max(map(len, shapes)) > 1:
            return f"shape {shapes[1]} instead of {shapes[0]}{at}"
        if len(right) != len(got):
            return f"length {len(got)} instead of {len(right)}{at}"
        pairs = enumerate(zip(right, got, strict=True))
        i, (a, b) = next(p for p in pairs if not same(*p[1], tolerance))
        return _difference(a, b, tolerance, f"{where}[{i}]")
    if isinstance(right, dict):
        return f"a different {_kind(right)}{at}"
    if _kind(right) == "number" and _show(right) == _show(got):
        return f"{got!r} instead of {right!r}{at}"
    return f"{_show(got)} instead of {_show(right)}{at}"


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of nested lists, as far as it is one."""
    if not isinstance(value, list):
        return ()
    inner = {_shape(item) for item in value}
    return (len(value), *(inner.pop() if len(inner) == 1 else ()))


_short = reprlib.Repr()
_short.maxlist = _short.maxdict = _short.maxset = _short.maxtuple = 8
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel = 4


def _show(value: Any, longest: int = 160) -> str:
    """Plain data as a learner would type it, cut where it is long."""
    return _cut(_short.repr(_typed(value)), longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _typed(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        (kind, rows), *_ = value.items()
        if kind == "dict":
            return {_key(key): _typed(item) for key, item in rows}
        return {_key(item) for item in rows}
    return value


def _argument(value: Any) -> Any:
    """An input as a learner would type it: tuples stay tuples, arrays are lists."""
    if isinstance(value, (np.ndarray, np.generic)):
        return _argument(value.tolist())
    if isinstance(value, (list, tuple, set)):
        return type(value)(map(_argument, value))
    if isinstance(value, dict):
        return {key: _argument(item) for key, item in value.items()}
    return _typed(value)


def _key(value: Any) -> Any:
    return tuple(map(_key, value)) if isinstance(value, list) else value


def _called(exercise: Exercise, case: Any) -> str:
    shown = [_cut(_short.repr(_argument(value)), 80) for value in unpack(case)]
    lengths = itertools.accumulate(map(len, shown))
    kept = [text for text, length in zip(shown, lengths, strict=True) if length <= 240]
    rest = ["…"] if len(kept) < len(shown) else []
    return f"{exercise.function}({', '.join(kept + rest)})"
