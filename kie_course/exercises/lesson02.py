"""Exercises of lesson 02: read, forget, overwrite and measure a soft memory."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 02.1 a soft dictionary with a default --------------------------------------------


def _whole(rng: np.random.Generator, *shape: int, most: int = 3) -> np.ndarray:
    """Whole numbers from -most to most, as floats."""
    return rng.integers(-most, most + 1, shape).astype(float)


def _get_cases(rng: np.random.Generator) -> list[tuple]:
    one = np.array([[1.0]])
    cases = [(one[0], one, one * 4, one[0] * 0, score) for score in (1.0, 3.0)]
    for items, d, width in ((1, 2, 1), (2, 2, 2), (3, 2, 1), (3, 3, 2), (5, 3, 2)):
        threshold = float(rng.choice([-1.0, 0.5, 2.0]))
        tables = _whole(rng, items, d), _whole(rng, items, width, most=9)
        query = rng.normal(0, 1, d).round(1) + 0.0
        cases.append((query, *tables, _whole(rng, width, most=9), threshold))
    # Exponentials of such scores overflow.
    keys, value = np.array([[1.0, 0.0], [0.0, 1.0]]), _whole(rng, 2, 2, most=9)
    near = float(rng.integers(1, 9)) / 4
    for query, threshold in (((1000, 999), 1000 - near), ((1000, 10), 999 + near)):
        cases.append((np.array(query, float), keys, value, _whole(rng, 2), threshold))
    return cases


def _get(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    default: np.ndarray,
    threshold: float,
) -> list[float]:
    """Weights as 1 / (sum of e^(other - own)), the default as one more item."""
    scores = [math.fsum(a * b for a, b in zip(query, key, strict=True)) for key in keys]
    scores.append(threshold)
    rows = [*values.tolist(), default.tolist()]
    weights = [1 / _total([b - a for b in scores]) for a in scores]
    return [
        math.fsum(w * row[column] for w, row in zip(weights, rows, strict=True))
        for column in range(len(default))
    ]


def _total(gaps: list[float]) -> float:
    """The sum of exponentials, endless where one of them is."""
    return math.fsum(math.exp(g) for g in gaps) if max(gaps) < 700 else math.inf


# What the wrong answers share; each changes one thing in it.
_GET = """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    scores = np.append(keys @ query, threshold)
    weights = np.exp(scores - scores.max())
    weights = weights / weights.sum()
    return weights @ np.vstack([values, default])
"""

GET = Exercise(
    id="02.1",
    title="A soft `get` with a default",
    points=2,
    idea="A default is one more item: it competes for the weight with a fixed score.",
    function="soft_get",
    cases=_get_cases,
    oracle=_get,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "A dictionary's default answers when nothing matches. In a soft memory nothing "
        "ever matches fully or not at all: how much should the default say?",
        "Give the default a seat among the items. Its score is the threshold, its "
        "value the default; then all weights together are 1.",
        "One more number at the end of the scores, one more row below the values, "
        "and the softmax as always, with the largest score taken away first.",
    ),
    wrong=(
        Wrong(
            "default-ignored",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    scores = keys @ query
    weights = np.exp(scores - scores.max())
    return weights / weights.sum() @ values
""",
            "The default has no say yet: even a question that fits nothing is answered "
            "from the items alone.",
        ),
        Wrong(
            "a-switch",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    scores = keys @ query
    if scores.max() < threshold:
        return default
    weights = np.exp(scores - scores.max())
    return weights / weights.sum() @ values
""",
            "Your function switches to the default all at once: at the threshold the "
            "answer jumps, and a jump has no derivative.",
        ),
        Wrong(
            "default-on-top",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    scores = keys @ query
    top = max(scores.max(), threshold)
    weights = np.exp(scores - top)
    extra = np.exp(threshold - top)
    return weights / weights.sum() @ values + extra / (extra + weights.sum()) * default
""",
            "The items share a weight of 1 among themselves, and the default comes on "
            "top: all shares together should be 1.",
        ),
        Wrong(
            "threshold-as-weight",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.append(np.exp(keys @ query), threshold)
        return weights / weights.sum() @ np.vstack([values, default])
""",
            "The threshold is a score like the others, and becomes a weight as they "
            "do; yours goes in as it is, and may be negative.",
        ),
        Wrong(
            "default-hands-nothing-over",
            _GET.replace(
                "return weights @ np.vstack([values, default])",
                "return weights[:-1] @ values",
            ),
            "Your default takes its share of the weight and hands nothing over: its "
            "own value is missing from the blend.",
        ),
        Wrong(
            "threshold-ignored",
            _GET.replace("keys @ query, threshold", "keys @ query, 0.0"),
            "Your default competes with a score of 0, whatever the threshold says.",
        ),
        Wrong(
            "hard-lookup",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    scores = np.append(keys @ query, threshold)
    return np.vstack([values, default])[scores.argmax()]
""",
            "Your function takes the best one and forgets the rest: that is a "
            "dictionary again.",
        ),
        Wrong(
            "overflow",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.exp(np.append(keys @ query, threshold))
        return weights / weights.sum() @ np.vstack([values, default])
""",
            "Right for small scores, but e to the 1000 is beyond any float: only "
            "differences of scores count, so make the largest one 0.",
        ),
        Wrong(
            "threshold-left-behind",
            """
import numpy as np

def soft_get(query, keys, values, default, threshold):
    scores = keys @ query
    scores = np.append(scores - scores.max(), threshold)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.exp(scores)
        weights = weights / weights.sum()
    return weights @ np.vstack([values, default])
""",
            "A shift changes nothing only if every score is shifted, and the threshold "
            "is one of them.",
        ),
    ),
)

# --- 02.2 logarithms of weights -------------------------------------------------------


def _log_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [([0.0], 2.0), ([1.0, 1.0], 0.5)]
    for items in (2, 3, 4, 6):
        scores = rng.normal(0, 3, items).round(1) + 0.0
        cases.append((scores, float(rng.choice([0.5, 2.0, 4.0]))))
    far = rng.permutation([100, *rng.integers(600, 900, 2)])
    cases += [(far + 2000.0, 0.5), (-far * 3.0, 0.25), (far * 4.0 - 2000, 2.0)]
    return [(np.array(scores), temperature) for scores, temperature in cases]


def _log(scores: np.ndarray, temperature: float) -> list[float]:
    """Minus the log of the sum of e^(other - own), the largest term outside."""
    found = []
    for own in scores:
        gaps = [float(other - own) / temperature for other in scores]
        rest = math.fsum(math.exp(gap - max(gaps)) for gap in gaps)
        found.append(-(max(gaps) + math.log(rest)))
    return found


# What the wrong answers share; each changes one thing in it.
_LOG = """
import numpy as np

def log_weights(scores, temperature):
    with np.errstate(all="ignore"):
        s = scores / temperature
        top = s.max()
        return s - top - np.log(np.exp(s - top).sum())
"""

LOG = Exercise(
    id="02.2",
    title="Log-weights that survive",
    points=1,
    idea=(
        "A weight may be too small for a float while its logarithm is an ordinary "
        "number: stay with logarithms."
    ),
    function="log_weights",
    cases=_log_cases,
    oracle=_log,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "What is the logarithm of a quotient, e^s divided by a sum?",
        "You never need the weight itself. Which part has to be an exponential, and "
        "how do you keep it from overflowing?",
        "Take the largest score away from all; what is left to subtract is the log "
        "of a sum between 1 and the number of items.",
    ),
    wrong=(
        Wrong(
            "log-of-a-rounded-weight",
            _LOG.replace(
                "return s - top - np.log(np.exp(s - top).sum())",
                "w = np.exp(s - top)\n        return np.log(w / w.sum())",
            ),
            "Your weights are right, but those below about e^-745 are rounded to 0, "
            "and the logarithm of 0 is minus infinity.",
        ),
        Wrong(
            "overflow",
            _LOG.replace("top = s.max()", "top = 0.0"),
            "Your exponentials overflow for large scores, or all vanish for very low "
            "ones; there is a shift that a softmax does not notice.",
        ),
        Wrong(
            "floor-under-the-weights",
            _LOG.replace(
                "return s - top - np.log(np.exp(s - top).sum())",
                "w = np.exp(s - top)\n"
                "        return np.log(np.maximum(w / w.sum(), 1e-300))",
            ),
            "A floor under your weights hides the infinite logarithms, and makes all "
            "very small weights alike.",
        ),
        Wrong(
            "shift-not-undone",
            _LOG.replace("return s - top -", "return s -"),
            "The largest score is taken away inside the sum only: what leaves on one "
            "side has to leave on the other.",
        ),
        Wrong(
            "temperature-multiplied",
            _LOG.replace("scores / temperature", "scores * temperature"),
            "A low temperature should make the weights sharper; yours makes them "
            "flatter.",
        ),
        Wrong(
            "temperature-ignored",
            _LOG.replace("scores / temperature", "scores"),
            "The temperature has no effect yet.",
        ),
        Wrong(
            "temperature-too-late",
            _LOG.replace("scores / temperature", "scores")
            .replace("return s - top", "return (s - top")
            .replace(".sum())", ".sum())) / temperature"),
            "You divide after the softmax, and the weights no longer add up to 1: the "
            "temperature belongs to the scores.",
        ),
        Wrong(
            "weights-themselves",
            _LOG.replace(
                "return s - top - np.log(", "return np.exp(s - top) / ("
            ).replace("np.exp(s - top).sum())", "np.exp(s - top).sum())"),
            "These are the weights; their logarithms were asked for.",
        ),
    ),
)

# --- 02.3 forget an item --------------------------------------------------------------


def _forget_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for readers, items, width in (
        (1, 2, 1),
        (1, 3, 2),
        (2, 2, 1),
        (2, 3, 2),
        (3, 3, 2),
        (3, 4, 1),
        (2, 5, 3),
        (4, 6, 2),
    ):
        shares = rng.integers(1, 9, (readers, items)).astype(float)
        weights = shares / shares.sum(axis=1, keepdims=True)
        values = _whole(rng, items, width, most=9)
        cases.append((weights, weights @ values, values, int(rng.integers(items))))
    return cases


def _forget(
    weights: np.ndarray, outputs: np.ndarray, values: np.ndarray, item: int
) -> list[list[float]]:
    """Go back to scores, leave the item out, and read again."""
    rows = []
    for row in weights:
        scores = {i: math.log(w) for i, w in enumerate(row) if i != item}
        shares = {
            i: 1 / _total([b - a for b in scores.values()]) for i, a in scores.items()
        }
        rows.append(
            [
                math.fsum(share * values[i, column] for i, share in shares.items())
                for column in range(values.shape[1])
            ]
        )
    return rows


# What the wrong answers share; each changes one thing in it.
_FORGET = """
import numpy as np

def forget(weights, outputs, values, item):
    own = weights[:, [item]]
    left = outputs - own * values[item]
    return left / (1 - own)
"""

FORGET = Exercise(
    id="02.3",
    title="Forget an item, without reading again",
    points=2,
    idea=(
        "The ratio of two weights does not depend on a third item: when one leaves, "
        "the others grow by one common factor."
    ),
    function="forget",
    cases=_forget_cases,
    oracle=_forget,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "What did the item add to each output? Take it away.",
        "The weights that are left no longer add up to 1. What do they add up to, for "
        "each query?",
        "Each query gave the item a weight of its own: a column of the table, as many "
        "numbers as there are queries.",
    ),
    wrong=(
        Wrong(
            "not-grown",
            _FORGET.replace("left / (1 - own)", "left"),
            "The item's share is gone, but nobody took it over: the weights that are "
            "left add up to less than 1.",
        ),
        Wrong(
            "divided-by-its-own-weight",
            _FORGET.replace("(1 - own)", "own"),
            "You divide by the weight that has gone; the question is what the others' "
            "weights add up to.",
        ),
        Wrong(
            "shared-equally",
            _FORGET.replace(
                "left / (1 - own)",
                "left + own * np.delete(values, item, axis=0).mean(axis=0)",
            ),
            "You hand the free weight out in equal parts; the others should keep their "
            "ratios.",
        ),
        Wrong(
            "softmax-again",
            """
import numpy as np

def forget(weights, outputs, values, item):
    rest = np.exp(np.delete(weights, item, axis=1))
    rest = rest / rest.sum(axis=1, keepdims=True)
    return rest @ np.delete(values, item, axis=0)
""",
            "You treat weights as scores and put them through a softmax a second time, "
            "which makes them nearly equal.",
        ),
        Wrong(
            "one-factor-for-all",
            _FORGET.replace("(1 - own)", "(1 - own.mean())"),
            "All outputs grow by the same factor here, but each query had given the "
            "item a weight of its own.",
        ),
        Wrong(
            "columns-for-rows",
            """
import numpy as np

def forget(weights, outputs, values, item):
    rest = np.delete(weights, item, axis=1)
    rest = rest / rest.sum(axis=0)
    return rest @ np.delete(values, item, axis=0)
""",
            "Your weights add up to 1 over the queries; each query needs shares of 1 "
            "over the items.",
        ),
        Wrong(
            "value-kept",
            _FORGET.replace("outputs - own * values[item]", "outputs"),
            "The others grow, but what the item itself had said is still in the "
            "output.",
        ),
    ),
)

# --- 02.4 leave one out ---------------------------------------------------------------


def _loo_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [([0.0, 1.0], [2.0, 5.0], 1.0), ([0, 1, 3], [4, 1, 2], 2.0)]
    for size, width in ((3, 0.5), (4, 1.5), (5, 2.0), (6, 0.7), (8, 3.0)):
        x = rng.permutation(2 * size)[:size] / 2
        cases.append((x, rng.integers(0, 10, size), width))
    x = rng.permutation(5) * 10 + 10
    cases.append((x + rng.integers(1, 5, 5), rng.integers(0, 10, 5), 0.1))
    return [(np.array(x, float), np.array(y, float), w) for x, y, w in cases]


def _loo(x: np.ndarray, y: np.ndarray, width: float) -> float:
    """Take each point out of the lists and ask the others, one by one."""
    losses = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        far = {j: ((x[i] - x[j]) / width) ** 2 / 2 for j in others}
        shares = {j: 1 / _total([far[j] - far[k] for k in others]) for j in others}
        guess = math.fsum(shares[j] * y[j] for j in others)
        losses.append((y[i] - guess) ** 2)
    return math.fsum(losses) / len(losses)


# What the wrong answers share; each changes one thing in it.
_LOO = """
import numpy as np

def loo_error(x, y, width):
    with np.errstate(all="ignore"):
        scores = -((x[:, None] - x) ** 2) / (2 * width**2)
        np.fill_diagonal(scores, -np.inf)
        scores = scores - scores.max(axis=1, keepdims=True)
        weights = np.exp(scores)
        weights = weights / weights.sum(axis=1, keepdims=True)
        return float(np.mean((y - weights @ y) ** 2))
"""

LOO = Exercise(
    id="02.4",
    title="Leave one out",
    points=2,
    idea="A memory is judged on what it had not stored: ask it for each point in turn.",
    function="loo_error",
    cases=_loo_cases,
    oracle=_loo,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "Which score must a point give itself, so that its weight is exactly 0?",
        "All pairs at once: a column minus a row gives a table of distances, a row for "
        "each point that asks.",
        "With a narrow kernel all exponentials of a row can round to 0. Take the "
        "row's largest score away, after the point's own has been struck out.",
    ),
    wrong=(
        Wrong(
            "asked-itself",
            _LOO.replace("        np.fill_diagonal(scores, -np.inf)\n", ""),
            "Each point is among those that answer for it, so a narrow kernel looks "
            "perfect: it repeats what it has seen.",
        ),
        Wrong(
            "struck-out-too-late",
            _LOO.replace("        np.fill_diagonal(scores, -np.inf)\n", "").replace(
                "        return",
                "        np.fill_diagonal(weights, 0.0)\n        return",
            ),
            "The point's own weight is set to 0 after the softmax: what is left does "
            "not add up to 1.",
        ),
        Wrong(
            "width-not-squared",
            _LOO.replace("width**2", "width"),
            "The distance is squared and the width is not: both are lengths, and "
            "should count alike.",
        ),
        Wrong(
            "two-forgotten",
            _LOO.replace("(2 * width**2)", "width**2"),
            "Your kernel is narrower than a Gaussian of this width: half of the "
            "squared distance counts.",
        ),
        Wrong(
            "width-multiplied",
            _LOO.replace("/ (2 * width**2)", "* width**2 / 2"),
            "A wide kernel should listen to far points as well; yours becomes "
            "narrower as the width grows.",
        ),
        Wrong(
            "root-taken",
            _LOO.replace(
                "float(np.mean((y - weights @ y) ** 2))",
                "float(np.sqrt(np.mean((y - weights @ y) ** 2)))",
            ),
            "Your function gives the root of the mean squared error; the mean itself "
            "was asked for.",
        ),
        Wrong(
            "absolute-error",
            _LOO.replace(
                "np.mean((y - weights @ y) ** 2)", "np.mean(abs(y - weights @ y))"
            ),
            "Your errors are absolute values; they were to be squared.",
        ),
        Wrong(
            "a-little-in-the-divisor",
            _LOO.replace(
                "        scores = scores - scores.max(axis=1, keepdims=True)\n", ""
            ).replace(
                "weights.sum(axis=1, keepdims=True)",
                "(weights.sum(axis=1, keepdims=True) + 1e-12)",
            ),
            "A little in your divisor avoids 0 / 0, but a point whose neighbours are "
            "all far is then estimated as 0, and not by the nearest.",
        ),
        Wrong(
            "vanishing-weights",
            _LOO.replace(
                "        scores = scores - scores.max(axis=1, keepdims=True)\n", ""
            ),
            "Where the kernel is narrow and the neighbours are far, all exponentials "
            "of a row round to 0, and 0 divided by 0 is no number.",
        ),
    ),
)

# --- 02.5 a memory that overwrites ----------------------------------------------------


def _write_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [([[2]], [[3]]), ([[1, 2]], [[4]]), ([[1], [2]], [[2], [6]])]
    cases.append(([[1, 0], [0, 2], [1, 0]], [[1], [2], [3]]))
    for writes, d, width in ((2, 2, 1), (3, 2, 2), (3, 3, 2), (4, 3, 1), (5, 4, 3)):
        keys = rng.integers(-2, 3, (writes, d))
        keys[:, 0] = rng.integers(1, 4, writes)  # no key is zero
        keys[-1] = keys[0]  # the first key is written once more
        cases.append((keys, rng.integers(-9, 10, (writes, width))))
    return [(np.array(keys, float), np.array(values, float)) for keys, values in cases]


def _write(keys: np.ndarray, values: np.ndarray) -> list[list[float]]:
    """Exact fractions: erase along the key, then write, an entry at a time."""
    d, width = keys.shape[1], values.shape[1]
    memory = [[Fraction(0)] * d for _ in range(width)]
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        key = [Fraction(x) for x in key]
        size = sum(x * x for x in key)
        for row, wanted in zip(memory, value, strict=True):
            found = sum(m * x for m, x in zip(row, key, strict=True))
            for i in range(d):
                row[i] = (
                    row[i] - found * key[i] / size + Fraction(wanted) * key[i] / size
                )
    return [[float(x) for x in row] for row in memory]


# What the wrong answers share; each changes one thing in it.
_WRITE = """
import numpy as np

def write_all(keys, values):
    memory = np.zeros((values.shape[1], keys.shape[1]))
    for key, value in zip(keys, values):
        old = memory @ key
        memory = memory + np.outer(value - old, key) / (key @ key)
    return memory
"""

WRITE = Exercise(
    id="02.5",
    title="A linear memory that overwrites",
    points=3,
    idea=(
        "Write only what is missing: the difference between the value and what the "
        "key already brings up (the delta rule)."
    ),
    function="write_all",
    cases=_write_cases,
    oracle=_write,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "What does the memory answer for this key before you write? And after, if you "
        "just add the outer product?",
        "Let the new part repair the difference between what should come out and what "
        "does.",
        "The outer product of a vector u with the key answers u times the key's "
        "squared length. So what do you divide by?",
    ),
    wrong=(
        Wrong(
            "added-not-replaced",
            _WRITE.replace("value - old", "value"),
            "A key that is written twice brings up the sum of both values; the second "
            "should replace the first.",
        ),
        Wrong(
            "length-forgotten",
            _WRITE.replace(" / (key @ key)", ""),
            "Reading with the same key multiplies by its squared length: the value "
            "comes back too large.",
        ),
        Wrong(
            "length-once",
            _WRITE.replace("(key @ key)", "np.sqrt(key @ key)"),
            "The key counts twice, in writing and in reading: dividing by its length "
            "once is not enough.",
        ),
        Wrong(
            "turned-over",
            _WRITE.replace("return memory", "return memory.T"),
            "Your memory is turned over: it should take a key and give a value, so it "
            "has a row for each number of a value.",
        ),
        Wrong(
            "everything-erased",
            _WRITE.replace(
                "memory + np.outer(value - old, key)", "np.outer(value, key)"
            ),
            "Each writing erases all that was there; only what stood under this very "
            "key should go.",
        ),
        Wrong(
            "old-added",
            _WRITE.replace("value - old", "value + old"),
            "What the key brought up before is added once more, where it should be "
            "taken out.",
        ),
        Wrong(
            "all-at-once",
            """
import numpy as np

def write_all(keys, values):
    return (np.linalg.pinv(keys) @ values).T
""",
            "Your function fits all pairs at once, and where they disagree it settles "
            "in between; written one by one, the last has its way.",
        ),
        Wrong(
            "backwards",
            _WRITE.replace("zip(keys, values)", "zip(keys[::-1], values[::-1])"),
            "The last pair is written first, so the oldest value wins; the newest "
            "should.",
        ),
    ),
)

# --- 02.6 downhill --------------------------------------------------------------------


def _energy_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [([[1.0]], [2.0], 1.0, 1), ([[1, -1], [1, 1]], [1, 0.5], 2.0, 2)]
    for items, d, steps in ((2, 2, 2), (3, 2, 3), (3, 4, 2), (4, 3, 4), (6, 5, 3)):
        patterns = rng.choice([-1.0, 1.0], (items, d))
        cue = rng.normal(0, 1, d).round(1) + 0.0
        cases.append((patterns, cue, float(rng.choice([0.25, 0.5, 2.0])), steps))
    # Exponentials of such scores overflow.
    cases.append((rng.choice([-40.0, 40.0], (3, 2)), np.array([30.0, 20.0]), 0.5, 2))
    return [(np.array(p, float), np.array(q, float), b, n) for p, q, b, n in cases]


def _energies(
    patterns: np.ndarray, cue: np.ndarray, beta: float, steps: int
) -> list[float]:
    """Number by number; weights as 1 / (sum of e^(other - own))."""
    state, found = cue.tolist(), []
    for _ in range(steps + 1):
        scores = [
            beta * math.fsum(a * b for a, b in zip(row, state, strict=True))
            for row in patterns
        ]
        top = max(scores)
        total = top + math.log(math.fsum(math.exp(s - top) for s in scores))
        found.append(math.fsum(x * x for x in state) / 2 - total / beta)
        weights = [1 / _total([b - a for b in scores]) for a in scores]
        state = [
            math.fsum(w * x for w, x in zip(weights, column, strict=True))
            for column in patterns.T
        ]
    return found


# What the wrong answers share; each changes one thing in it.
_ENERGY = """
import numpy as np

def energies(patterns, cue, beta, steps):
    found, state = [], cue
    with np.errstate(all="ignore"):
        for _ in range(steps + 1):
            scores = beta * patterns @ state
            top = scores.max()
            total = top + np.log(np.exp(scores - top).sum())
            found.append(float(state @ state / 2 - total / beta))
            weights = np.exp(scores - top)
            state = weights / weights.sum() @ patterns
    return found
"""

ENERGY = Exercise(
    id="02.6",
    title="Every read is a step downhill",
    points=2,
    idea="Reading again and again rolls down one landscape, and never climbs.",
    function="energies",
    cases=_energy_cases,
    oracle=_energies,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "Two things alternate: say how high the state is, and let the memory read with "
        "it. What was read is the next state.",
        "The cue has an energy as well, so there is one number more than there are "
        "steps.",
        "A log of a sum of exponentials: take the largest score out before, put it "
        "back after. Then divide by beta.",
    ),
    wrong=(
        Wrong(
            "reads-from-the-cue",
            _ENERGY.replace(
                "scores = beta * patterns @ state",
                "scores = beta * "
                "patterns @ cue\n            now = beta * patterns @ state",
            )
            .replace("top = scores.max()", "top, high = scores.max(), now.max()")
            .replace(
                "total = top + np.log(np.exp(scores - top).sum())",
                "total = high + np.log(np.exp(now - high).sum())",
            ),
            "Your function reads with the cue every time; the next question should be "
            "what was read last.",
        ),
        Wrong(
            "cue-left-out",
            _ENERGY.replace("return found", "return found[1:]"),
            "The first energy is that of the cue, before anything is read.",
        ),
        Wrong(
            "beta-not-taken-out",
            _ENERGY.replace("total / beta", "total"),
            "Beta makes the scores larger and is never taken out again: with it, the "
            "states would roll down another landscape.",
        ),
        Wrong(
            "no-bowl",
            _ENERGY.replace("state @ state / 2 - total / beta", "-total / beta"),
            "The state's own length is missing: without it nothing keeps a state from "
            "running away.",
        ),
        Wrong(
            "half-forgotten",
            _ENERGY.replace("state @ state / 2", "state @ state"),
            "Half of the squared length counts: its slope is then the state itself.",
        ),
        Wrong(
            "upside-down",
            _ENERGY.replace("- total / beta", "+ total / beta"),
            "A state that fits a pattern should lie low; yours lies high.",
        ),
        Wrong(
            "beta-in-the-energy-only",
            _ENERGY.replace(
                "weights = np.exp(scores - top)",
                "weights = np.exp((scores - top) / beta)",
            ),
            "The energy knows beta and the reading does not: the weights should be as "
            "sharp as beta says.",
        ),
        Wrong(
            "rounded-to-signs",
            _ENERGY.replace(
                "state = weights / weights.sum() @ patterns",
                "state = np.sign(weights / weights.sum() @ patterns)",
            ),
            "You round each state to signs, as the network of 1982 does; here a state "
            "may lie between the patterns.",
        ),
        Wrong(
            "overflow",
            _ENERGY.replace("top = scores.max()", "top = 0.0"),
            "Right for small scores, but large ones overflow: take the largest out of "
            "the sum first.",
        ),
    ),
)

# --- 02.7 how wide must it be? --------------------------------------------------------


def _width_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(2, 0.5), (2, 0.1), (2, 0.9), (3, 0.5)]
    for most, share in ((50, 0.3), (50, 0.7), (1000, 0.5), (9000, 0.2), (10**6, 0.9)):
        cases.append((int(rng.integers(most // 2, most)), share))
    return cases


def _width(items: int, share: float) -> int:
    """Try one width after the other."""
    d = 1
    while 1 / (1 + (items - 1) * math.exp(0.5 - math.sqrt(d))) < share:
        d += 1
    return d


# What the wrong answers share; each changes one thing in it.
_WIDTH = """
import math

def width_needed(items, share):
    root = math.log((items - 1) * share / (1 - share)) + 0.5
    root = max(root, 0)
    return max(1, math.ceil(root**2))
"""

WIDTH = Exercise(
    id="02.7",
    title="How wide must a key be?",
    points=2,
    idea=(
        "To hold ten times as many items, a key's root grows by a constant: capacity "
        "is exponential in the root of the width."
    ),
    function="width_needed",
    cases=_width_cases,
    oracle=_width,
    hints=(
        "Write down the weight of the right item: its own e^score over that and the "
        "rivals' total. Solve for the root of d.",
        "The odds, share divided by 1 - share, are e^score over the rivals' total. "
        "Logarithms turn this into a sum.",
        "If the root comes out below 0, even one number is enough. Else square it, and "
        "round up.",
    ),
    wrong=(
        Wrong(
            "rounded-down",
            _WIDTH.replace("math.ceil", "math.floor"),
            "Your width falls just short of the share: where a part of a number is "
            "needed, a whole one has to be there.",
        ),
        Wrong(
            "negative-root-squared",
            _WIDTH.replace("    root = max(root, 0)\n", ""),
            "When little is asked for, the root comes out below 0, and its square "
            "looks like a demand.",
        ),
        Wrong(
            "rivals-miscounted",
            _WIDTH.replace("(items - 1)", "items"),
            "You count the item among its own rivals, which makes them one too many.",
        ),
        Wrong(
            "noise-forgotten",
            _WIDTH.replace(" + 0.5", ""),
            "Your rivals count e^0 each; but a score that varies around 0 has a mean "
            "exponential above 1.",
        ),
        Wrong(
            "noise-on-the-wrong-side",
            _WIDTH.replace(" + 0.5", " - 0.5"),
            "Noise makes the rivals stronger, so more width is needed for it, and "
            "yours asks for less.",
        ),
        Wrong(
            "share-ignored",
            _WIDTH.replace(" * share / (1 - share)", ""),
            "Your width is the one for a share of one half, whatever is asked for.",
        ),
        Wrong(
            "odds-upside-down",
            _WIDTH.replace("share / (1 - share)", "(1 - share) / share"),
            "A larger share asks for less width in your function: look at the odds "
            "again.",
        ),
        Wrong(
            "not-squared",
            _WIDTH.replace("root**2", "root"),
            "That is the root of the width; the number of numbers in a key was asked "
            "for.",
        ),
        Wrong(
            "rounded-too-early",
            _WIDTH.replace("math.ceil(root**2)", "math.ceil(root) ** 2"),
            "Your root is rounded up before it is squared, which asks for more width "
            "than is needed.",
        ),
        Wrong(
            "decimal-logarithm",
            _WIDTH.replace("math.log(", "math.log10("),
            "Softmax works with e, so the logarithm that undoes it is the natural one.",
        ),
    ),
)

EXERCISES = [GET, LOG, FORGET, LOO, WRITE, ENERGY, WIDTH]
