"""Exercises of lesson 00b: shapes, slopes, a loss from counts, honest splits."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 00b.1 every pair -----------------------------------------------------------------


def _pair_cases(rng: np.random.Generator) -> list[tuple]:
    fixed = [
        ([[1, 2]], [[4, 6]]),
        ([[1], [2]], [[3], [5]]),
        ([[0, 0]], [[1, 0], [0, 2]]),
    ]
    sizes = ((2, 3, 2), (3, 2, 2), (3, 3, 2), (4, 2, 3), (2, 5, 3), (5, 4, 2))
    drawn = [
        (rng.integers(-4, 5, (n, width)), rng.integers(-4, 5, (m, width)))
        for n, m, width in sizes
    ]
    return [(np.array(a, float), np.array(b, float)) for a, b in [*fixed, *drawn]]


def _pairs(a: np.ndarray, b: np.ndarray) -> list[list[float]]:
    """One pair of rows after the other, by the length of a line between two points."""
    return [[math.dist(one, other) ** 2 for other in b] for one in a]


# What the wrong answers share; each changes one thing in it.
_PAIRS = """
def pair_distances(a, b):
    gaps = a[:, None, :] - b[None, :, :]
    return (gaps**2).sum(axis=2)
"""

PAIRS = Exercise(
    id="00b.1",
    title="Every pair at once",
    points=2,
    idea="Two axes of size 1, one on each side, turn rows against rows into a table.",
    function="pair_distances",
    cases=_pair_cases,
    oracle=_pairs,
    hints=(
        "The result has an axis for the rows of `a` and one for the rows of `b`. Which "
        "shapes broadcast to such a table?",
        "Give each of the two an axis of size 1 where the other has its rows. The "
        "difference then has three axes: row of `a`, row of `b`, column.",
        "Square the differences, and add up over the axis that should go.",
    ),
    wrong=(
        Wrong(
            "row-with-row",
            """
def pair_distances(a, b):
    return ((a - b) ** 2).sum(axis=1)
""",
            "Your function compares row i of `a` with row i of `b` only, if they fit "
            "at all; asked for is every row of `a` with every row of `b`.",
        ),
        Wrong(
            "turned-over",
            _PAIRS.replace("sum(axis=2)", "sum(axis=2).T"),
            "The numbers are right, but your table lies on its side: its rows should "
            "belong to `a`, its columns to `b`.",
        ),
        Wrong(
            "not-summed",
            _PAIRS.replace(".sum(axis=2)", ""),
            "Your function leaves a square for every column; a distance is one number "
            "a pair.",
        ),
        Wrong(
            "summed-over-rows",
            _PAIRS.replace("sum(axis=2)", "sum(axis=0)"),
            "The axis that you name in a sum is the one that goes: here the rows of "
            "`a` are gone, and the columns are still there.",
        ),
        Wrong(
            "squared-after-the-sum",
            _PAIRS.replace("(gaps**2).sum(axis=2)", "gaps.sum(axis=2) ** 2"),
            "Your function adds up first and squares then, so that a gap of 1 and one "
            "of -1 cancel: square each gap while it still stands alone.",
        ),
        Wrong(
            "lengths-only",
            """
def pair_distances(a, b):
    return (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
""",
            "Your table adds the two squared lengths and forgets the product between "
            "the rows: (x - y)² has three terms.",
        ),
        Wrong(
            "root-taken",
            _PAIRS.replace("(gaps**2).sum(axis=2)", "(gaps**2).sum(axis=2) ** 0.5"),
            "These are the distances themselves; asked for are their squares.",
        ),
    ),
)

# --- 00b.2 a weight used twice --------------------------------------------------------


def _twice_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(2, 1, 1, 5), (0, 2, 1, 0), (1, 0, 3, 2), (3, -1, 2, 4)]
    wide = [-3, -2, 2, 3]  # no zero, no one: every factor shows
    for _ in range(6):
        x, w, b = (int(n) for n in rng.choice(wide, 3))
        cases.append((x, w, b, w * (w * x + b) + int(rng.choice(wide))))
    return [tuple(float(n) for n in case) for case in cases]


def _twice(x: float, w: float, b: float, y: float) -> tuple[float, float]:
    """A tiny step into the imaginary: the slope is what comes out there."""
    step = 1e-30

    def loss(w: complex, b: complex) -> complex:
        error = w * (w * x + b) - y
        return error * error

    return loss(w + step * 1j, b).imag / step, loss(w, b + step * 1j).imag / step


_TWICE = """
def slopes_of_loss(x, w, b, y):
    inner = w * x + b
    error = w * inner - y
    return 2 * error * (inner + w * x), 2 * error * w
"""

TWICE = Exercise(
    id="00b.2",
    title="A weight that is used twice",
    points=2,
    idea="Along a path slopes are multiplied; over all paths the products are added.",
    function="slopes_of_loss",
    cases=_twice_cases,
    oracle=_twice,
    hints=(
        "Give the steps names: inner = w·x + b, then prediction, error, loss. Where "
        "does w come in?",
        "Follow each way from the loss back to w, and multiply the slopes that you "
        "pass. There are two ways.",
        "Both ways begin with the slope of the square, two times the error. One then "
        "ends at the outer w, the other goes on through inner.",
    ),
    wrong=(
        Wrong(
            "outer-path-only",
            _TWICE.replace("(inner + w * x)", "inner"),
            "Your slope of w counts the outer use of w alone; w is also inside, and "
            "that way adds something.",
        ),
        Wrong(
            "inner-path-only",
            _TWICE.replace("(inner + w * x)", "w * x"),
            "Your slope of w counts the inner use of w alone; w also multiplies from "
            "outside, and that way adds something.",
        ),
        Wrong(
            "paths-multiplied",
            _TWICE.replace("(inner + w * x)", "inner * w * x"),
            "You multiply the two ways by which w reaches the loss; slopes are "
            "multiplied along one way, and the ways are added.",
        ),
        Wrong(
            "inner-slope-cut",
            _TWICE.replace("(inner + w * x)", "(inner + x)"),
            "The way through the inner w also passes the outer multiplication: its "
            "slope is missing from your product.",
        ),
        Wrong(
            "square-forgotten",
            _TWICE.replace("2 * error", "error"),
            "Both slopes are half of what they should be: think of the slope of a "
            "square.",
        ),
        Wrong(
            "sign-turned",
            _TWICE.replace("w * inner - y", "y - w * inner"),
            "Both slopes have the wrong sign: the loss does not care which of the two "
            "is taken from which, but the slope does.",
        ),
        Wrong(
            "bias-outside",
            _TWICE.replace("2 * error * w\n", "2 * error\n"),
            "Your slope of b treats it as if it were added at the very end; it is "
            "added inside, and the outer w multiplies it.",
        ),
    ),
)

# --- 00b.3 backwards through a tape ---------------------------------------------------


def _tape_cases(rng: np.random.Generator) -> list[tuple]:
    add, mul = "add", "mul"
    cases: list[tuple] = [
        ([3], []),
        ([2, 5], []),
        ([2, 5], [(mul, 0, 1)]),
        ([3], [(mul, 0, 0)]),
        ([2, 3], [(mul, 0, 1), (add, 0, 1)]),  # the product leads nowhere
        ([2, 3, 4], [(mul, 0, 1), (add, 3, 2), (mul, 4, 4)]),
        ([2, 3], [(add, 0, 1), (mul, 2, 0), (mul, 3, 1)]),
    ]
    for inputs, steps in ((2, 3), (2, 4), (3, 4), (3, 5), (4, 6)):
        numbers = rng.choice([-3, -2, 2, 3], inputs).tolist()
        tape = []
        for last in range(inputs - 1, inputs - 1 + steps):
            kind = add if last % 2 else mul
            # A product takes an input, so that numbers stay small.
            others = inputs if kind == mul else last + 1
            tape.append((kind, last, int(rng.integers(others))))
        cases.append((numbers, tape))
    return [([float(n) for n in numbers], tape) for numbers, tape in cases]


def _tape(inputs: list[float], tape: list[tuple]) -> list[float]:
    """Forwards: carry every number together with its slope against one input."""
    slopes = []
    for chosen in range(len(inputs)):
        pairs = [(value, float(i == chosen)) for i, value in enumerate(inputs)]
        for kind, i, j in tape:
            (a, slope_a), (b, slope_b) = pairs[i], pairs[j]
            if kind == "add":
                pairs.append((a + b, slope_a + slope_b))
            else:
                pairs.append((a * b, slope_a * b + a * slope_b))
        slopes.append(pairs[-1][1])
    return slopes


_TAPE = """
def tape_gradients(inputs, tape):
    numbers = list(inputs)
    for kind, i, j in tape:
        a, b = numbers[i], numbers[j]
        numbers.append(a + b if kind == "add" else a * b)
    grads = [0.0] * len(numbers)
    grads[-1] = 1.0
    for n in reversed(range(len(inputs), len(numbers))):
        kind, i, j = tape[n - len(inputs)]
        a, b = numbers[i], numbers[j]
        grads[i] += grads[n] * (1.0 if kind == "add" else b)
        grads[j] += grads[n] * (1.0 if kind == "add" else a)
    return grads[: len(inputs)]
"""

TAPE = Exercise(
    id="00b.3",
    title="Backwards through a tape",
    points=3,
    idea=(
        "The tape is read backwards: when a number's turn comes, all that used it have "
        "already handed their slopes down."
    ),
    function="tape_gradients",
    cases=_tape_cases,
    oracle=_tape,
    hints=(
        "First go forwards and note every number. Then keep a list with one slope a "
        "number; only one of them is known at the start.",
        "Read the steps from the last to the first. Each hands its own slope down to "
        "the two numbers that it used.",
        "A sum hands its slope down as it is; a product hands to each factor its slope "
        "times the other factor. What arrives is added to what is there.",
    ),
    wrong=(
        Wrong(
            "overwritten",
            _TAPE.replace("+=", "="),
            "Your function overwrites what an earlier use has handed down; a number "
            "that is used twice gets the sum.",
        ),
        Wrong(
            "own-factor",
            _TAPE.replace('"add" else b)', '"add" else A)')
            .replace('"add" else a)', '"add" else b)')
            .replace('"add" else A)', '"add" else a)'),
            "In a product your function multiplies by the factor itself: how fast x·y "
            "grows with x is told by y.",
        ),
        Wrong(
            "read-forwards",
            _TAPE.replace("in reversed(range", "in (range"),
            "Your function reads the tape from its beginning, so numbers hand their "
            "slope down before they have got it.",
        ),
        Wrong(
            "slope-not-passed-on",
            _TAPE.replace("grads[n] * ", ""),
            "In your function each step hands down its own slope alone: what came from "
            "the steps after it is lost.",
        ),
        Wrong(
            "starts-with-the-value",
            _TAPE.replace("grads[-1] = 1.0", "grads[-1] = numbers[-1]"),
            "The last number's slope against itself should start the way back, not its "
            "value.",
        ),
        Wrong(
            "sums-as-products",
            _TAPE.replace('1.0 if kind == "add" else ', ""),
            "Your function treats a sum like a product: when x grows by a little, x + "
            "y grows by just as much, whatever y is.",
        ),
    ),
)

# --- 00b.4 a loss from counts ---------------------------------------------------------


def _count_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[0, 0]], [[1, 1]]),
        ([[2, 0]], [[3, 1]]),
        ([[0, 0], [2, 0]], [[1, 0], [0, 3]]),
        ([[1, 0, 1], [0, 2, 1]], [[2, 0, 0], [1, 5, 0]]),
        # Exponentials of such logits overflow.
        ([[1000, 998], [0, 3]], [[1, 2], [4, 0]]),
        # The weight of the second class is too small for a number.
        ([[1000, -1000], [0, 3]], [[1, 2], [4, 0]]),
        ([[-1000, -1001, -999]], [[1, 0, 3]]),
    ]
    for rows, classes in ((2, 3), (3, 2), (3, 3), (4, 3), (5, 4)):
        counts = rng.integers(0, 5, (rows, classes))
        counts[:, 0] += 1  # no row is empty
        counts[0, 1] += 6  # rows differ in size
        cases.append((rng.integers(-3, 4, (rows, classes)), counts))
    return [(np.array(z, float), np.array(c, int)) for z, c in cases]


def _count_loss(logits: np.ndarray, counts: np.ndarray) -> float:
    """Write every message out, and note what each one costs."""
    costs = []
    for row, seen in zip(logits.tolist(), counts.tolist(), strict=True):
        for own, times in zip(row, seen, strict=True):
            top = max(row)
            total = math.fsum(math.exp(other - top) for other in row)
            costs += [math.log(total) + top - own] * times
    return math.fsum(costs) / len(costs)


_COUNTS = """
import numpy as np

def counted_loss(logits, counts):
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-(counts * log_p).sum() / counts.sum())
"""

COUNTS = Exercise(
    id="00b.4",
    title="A loss from counts",
    points=2,
    idea=(
        "Cross-entropy is the mean surprise over everything that happened; what "
        "happened often counts often."
    ),
    function="counted_loss",
    cases=_count_cases,
    oracle=_count_loss,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "Think of each count as that many messages: each costs minus the log of the "
        "probability that its row gives to its class.",
        "All messages count alike, so a row with twenty of them weighs ten times as "
        "much as one with two. What is the one number to divide by?",
        "Take each row's largest logit away first; then the log of the probability is "
        "the logit less the log of the sum of the row's exponentials.",
    ),
    wrong=(
        Wrong(
            "rows-weigh-alike",
            """
import numpy as np

def counted_loss(logits, counts):
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = -(counts * log_p).sum(axis=1) / counts.sum(axis=1)
    return float(rows.mean())
""",
            "Your function takes the mean of each row, then the mean of those: a "
            "message counts less because many share its text.",
        ),
        Wrong(
            "divided-by-rows",
            _COUNTS.replace("counts.sum())", "len(counts))"),
            "Your sum is divided by the number of rows; it has one term a message, and "
            "a row may stand for many.",
        ),
        Wrong(
            "divided-by-cells",
            _COUNTS.replace("counts.sum())", "counts.size)"),
            "Your sum is divided by the number of cells in the table, empty ones "
            "included: a mean is over what happened.",
        ),
        Wrong(
            "softmax-down-the-columns",
            _COUNTS.replace("axis=1", "axis=0").replace(
                "    log_p", '    with np.errstate(all="ignore"):\n        log_p'
            ),
            "Your softmax runs down the columns, so texts compete with each other: in "
            "a row, the classes should.",
        ),
        Wrong(
            "double-softmax",
            _COUNTS.replace(
                "    log_p",
                "    logits = np.exp(logits)\n"
                "    logits = logits / logits.sum(axis=1, keepdims=True)\n"
                "    log_p",
            ),
            "In your function probabilities go through a second softmax: they lie "
            "between 0 and 1, so even a sure and right answer keeps a loss.",
        ),
        Wrong(
            "majority-only",
            """
import numpy as np

def counted_loss(logits, counts):
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(counts))
    weights = counts.sum(axis=1)
    own = log_p[rows, counts.argmax(axis=1)]
    return float(-(weights * own).sum() / weights.sum())
""",
            "Your function takes a row's most frequent class for all of its messages; "
            "the others happened, too.",
        ),
        Wrong(
            "in-bits",
            _COUNTS.replace("float(-(", "float(-1 / np.log(2) * ("),
            "Your result is in bits (logarithms to base 2); libraries use the natural "
            "logarithm, and so does this exercise.",
        ),
        Wrong(
            "sign-forgotten",
            _COUNTS.replace("float(-(", "float(("),
            "Your result is negative: logarithms of probabilities are, and a loss "
            "should be small when things go well.",
        ),
        Wrong(
            "overflow",
            _COUNTS.replace(
                "    logits = logits - logits.max(axis=1, keepdims=True)\n", ""
            ).replace(
                "    log_p", '    with np.errstate(all="ignore"):\n        log_p'
            ),
            "Right for small logits, but e to the 1000 is beyond any float: use that a "
            "softmax depends on differences only.",
        ),
        Wrong(
            "one-shift-for-all",
            _COUNTS.replace(
                "logits.max(axis=1, keepdims=True)", "logits.max()"
            ).replace(
                "    log_p", '    with np.errstate(all="ignore"):\n        log_p'
            ),
            "Your function takes the table's largest logit away from every row: where "
            "a row lies far below it, all its exponentials round to 0.",
        ),
    ),
)

# --- 00b.5 scale by what was learned --------------------------------------------------


def _scale_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[1], [3]], [[5]]),
        ([[1, 2], [3, 2]], [[5, 2], [1, 3]]),
        ([[0, 0], [2, 10]], [[1, 5]]),
        ([[7, 7]], [[7, 8], [6, 9]]),
        # The floats' own spread of such a column is tiny, and not 0.
        ([[0.1, 1], [0.1, 2], [0.1, 3]], [[0.1, 2], [1.1, 4]]),
    ]
    for rows, width, fresh in ((3, 2, 2), (4, 2, 3), (4, 3, 2), (5, 3, 4), (6, 2, 1)):
        train = rng.integers(-5, 6, (rows, width)) * np.arange(1, width + 1)
        train[0, 0], train[1, 0] = 9, -9  # one column that surely varies
        cases.append((train, rng.integers(-9, 10, (fresh, width))))
    return [(np.array(a, float), np.array(b, float)) for a, b in cases]


def _scale(train: np.ndarray, new: np.ndarray) -> list[list[float]]:
    """Column by column, with the statistics module."""
    columns = []
    for seen, fresh in zip(train.T.tolist(), new.T.tolist(), strict=True):
        mean, spread = fmean(seen), pstdev(seen)
        columns.append([(v - mean) / spread if spread else v - mean for v in fresh])
    return [list(row) for row in zip(*columns, strict=True)]


_SCALE = """
import numpy as np

def scale_like(train, new):
    mean = train.mean(axis=0)
    spread = train.std(axis=0)
    varies = train.max(axis=0) > train.min(axis=0)
    spread = np.where(varies, spread, 1.0)
    return (new - mean) / spread
"""

SCALE = Exercise(
    id="00b.5",
    title="Scale by what was learned",
    points=2,
    idea=(
        "What is computed from data is learned from data: means and spreads come from "
        "train, whatever they are used on."
    ),
    function="scale_like",
    cases=_scale_cases,
    oracle=_scale,
    hints=(
        "Which rows may you look at to find a mean? Imagine that the new ones arrive "
        "one a day.",
        "A mean a column: which axis goes? The result broadcasts over the new rows.",
        "A column that never varies in train needs another divisor, one that changes "
        "nothing. Find such columns by their values, say the largest and the smallest.",
    ),
    wrong=(
        Wrong(
            "scaled-by-itself",
            _SCALE.replace("train.mean", "new.mean").replace("train.std", "new.std"),
            "Your function scales the new rows by their own mean and spread: a single "
            "new row would always come out as zeros.",
        ),
        Wrong(
            "both-together",
            _SCALE.replace(
                "    mean = train",
                "    both = np.vstack([train, new])\n    mean = both",
            ).replace("train.std", "both.std"),
            "Your function takes mean and spread over train and the new rows together: "
            "that is leakage, for the new rows help to scale themselves.",
        ),
        Wrong(
            "one-scale-for-all",
            _SCALE.replace("mean(axis=0)", "mean()").replace("std(axis=0)", "std()"),
            "Your function has one mean and one spread for all columns: a column of "
            "large numbers drowns the others. Each needs its own.",
        ),
        Wrong(
            "centred-only",
            _SCALE.replace("(new - mean) / spread", "new - mean"),
            "Your function takes the mean away, but the spread has no effect yet.",
        ),
        Wrong(
            "divided-by-the-variance",
            _SCALE.replace("train.std", "train.var"),
            "Your function divides by the variance, which is in squared units; the "
            "spread is its root.",
        ),
        Wrong(
            "sample-spread",
            _SCALE.replace(
                "    spread = train.std(axis=0)",
                "    spread = train.std(axis=0, ddof=min(1, len(train) - 1))",
            ),
            "Nearly: your spread is divided by one row less (the sample's estimate); "
            "here it is the root of the plain mean of squares.",
        ),
        Wrong(
            "constant-column",
            _SCALE.replace(
                "    spread = np.where(varies, spread, 1.0)\n    return",
                '    with np.errstate(all="ignore"):\n        return',
            ),
            "A column that is the same in every training row has a spread of 0, and "
            "nothing can be divided by that.",
        ),
        Wrong(
            "constant-left-alone",
            _SCALE.replace(
                "return (new - mean) / spread",
                "return np.where(varies, (new - mean) / spread, new)",
            ),
            "Your function hands a constant column on as it is: there is nothing to "
            "divide by, but its mean is to be taken away as well.",
        ),
        Wrong(
            "spread-compared-with-zero",
            _SCALE.replace("train.max(axis=0) > train.min(axis=0)", "spread > 0"),
            "Your function asks whether the spread is exactly 0, but floats round: "
            "that of 0.1, 0.1, 0.1 is tiny and not 0. The values tell.",
        ),
    ),
)

# --- 00b.6 hold out whole documents ---------------------------------------------------


def _split_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        (["b"], 1),
        (["b", "a"], 1),
        (["b", "a", "b"], 1),
        (["b", "a", "b"], 2),
        (["c", "c", "a", "b"], 2),
        (["c", "a", "a", "b"], 2),
        (["b", "a", "a", "b", "c"], 3),
    ]
    for documents, rows in ((3, 5), (3, 7), (4, 8), (4, 9), (5, 12)):
        names = rng.permutation(["p", "q", "r", "s", "t"])[:documents]
        groups = [str(name) for name in rng.choice(names, rows)]
        cases.append((groups, int(rng.integers(2, rows))))
    return cases


def _split(groups: list[str], wanted: int) -> list[int]:
    """Walk down the rows; whenever more are needed, take all that belong with one."""
    held: set[int] = set()
    for row, group in enumerate(groups):
        if len(held) < wanted and row not in held:
            held |= {other for other, name in enumerate(groups) if name == group}
    return sorted(held)


_SPLIT = """
def hold_out(groups, wanted):
    chosen = []
    for group in dict.fromkeys(groups):
        if sum(g in chosen for g in groups) >= wanted:
            break
        chosen.append(group)
    return [row for row, group in enumerate(groups) if group in chosen]
"""

SPLIT = Exercise(
    id="00b.6",
    title="Hold out whole documents",
    points=2,
    idea="What belongs together stays together: a document is in train or in test.",
    function="hold_out",
    cases=_split_cases,
    oracle=_split,
    hints=(
        "Choose documents, not rows; the rows follow.",
        "The keys of a dictionary keep the order in which they came: that lists each "
        "document once, in order of its first row.",
        "Before each document, count the rows of those already chosen: are there "
        "enough?",
    ),
    wrong=(
        Wrong(
            "rows-held-out",
            """
def hold_out(groups, wanted):
    return list(range(min(wanted, len(groups))))
""",
            "Your function holds out rows, not documents: a document whose first rows "
            "are in test can have its others in train.",
        ),
        Wrong(
            "one-run-only",
            """
def hold_out(groups, wanted):
    end = min(wanted, len(groups))
    while end < len(groups) and groups[end] == groups[end - 1]:
        end += 1
    return list(range(end))
""",
            "Your function stops at the end of a run of rows, but a document can come "
            "back further down: those rows belong to it as well.",
        ),
        Wrong(
            "documents-counted",
            """
def hold_out(groups, wanted):
    chosen = list(dict.fromkeys(groups))[:wanted]
    return [row for row, group in enumerate(groups) if group in chosen]
""",
            "`wanted` counts rows; your function takes that many documents.",
        ),
        Wrong(
            "documents-of-the-first-rows",
            """
def hold_out(groups, wanted):
    chosen = set(groups[:wanted])
    return [row for row, group in enumerate(groups) if group in chosen]
""",
            "Your function takes each document that has one of the first `wanted` "
            "rows: if a document comes back further down, that is more than needed.",
        ),
        Wrong(
            "one-document-more",
            _SPLIT.replace(">= wanted", "> wanted"),
            "With just enough rows held out, your function still takes another "
            "document.",
        ),
        Wrong(
            "never-more-than-wanted",
            """
def hold_out(groups, wanted):
    chosen = []
    for group in dict.fromkeys(groups):
        if sum(g in [*chosen, group] for g in groups) > wanted:
            break
        chosen.append(group)
    return [row for row, group in enumerate(groups) if group in chosen]
""",
            "Your function stops before there are enough rows: as documents stay "
            "whole, a few too many are fine, too few are not.",
        ),
        Wrong(
            "alphabetical",
            _SPLIT.replace("dict.fromkeys(groups)", "sorted(set(groups))"),
            "Your function takes documents by the alphabet; here they come in the "
            "order of their first rows.",
        ),
    ),
)

# --- 00b.7 leaked texts ---------------------------------------------------------------

TEXTS = ("the bread came late", "late bread", "to day", "bread", "where is it", "no 5")


def _dressed(rng: np.random.Generator, text: str) -> str:
    """The same words in other clothes."""
    forms = (
        text.upper(),
        text.capitalize() + "!",
        text.replace(" ", "  "),
        text.replace(" ", ", "),
        f" {text}.",
        text.title(),
    )
    return forms[rng.integers(len(forms))]


def _leak_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        (["bread"], ["bread"]),
        (["bread"], []),
        (["Bread"], ["bread", "milk"]),
        (["late bread"], ["milk", "Late  bread", "bread, late"]),
        (["late bread!"], ["bread", "late bread", "late, bread"]),
        (["to day", "x"], ["today", "to-day", "to day to day"]),
        (["late late bread"], ["late bread", "LATE late bread"]),
    ]
    for learned, asked in ((2, 3), (3, 4), (3, 5), (4, 6)):
        train = [_dressed(rng, str(text)) for text in rng.choice(TEXTS, learned)]
        test = [_dressed(rng, str(text)) for text in rng.choice(TEXTS, asked)]
        cases.append((train, test))
    return cases


def _leaks(train: list[str], test: list[str]) -> list[int]:
    """Spell the words out, one character at a time, and compare text by text."""

    def words(text: str) -> list[str]:
        found = [""]
        for sign in text.lower():
            if sign.isalnum():
                found[-1] += sign
            elif found[-1]:
                found.append("")
        return [word for word in found if word]

    return [
        place
        for place, text in enumerate(test)
        if any(words(text) == words(other) for other in train)
    ]


_LEAKS = """
import re

def leaked(train, test):
    def key(text):
        return tuple(re.findall("[a-z0-9]+", text.lower()))

    seen = {key(text) for text in train}
    return [place for place, text in enumerate(test) if key(text) in seen]
"""

LEAKS = Exercise(
    id="00b.7",
    title="Texts that leaked",
    points=1,
    idea="Two texts are the same to a model when they are the same after cleaning.",
    function="leaked",
    cases=_leak_cases,
    oracle=_leaks,
    hints=(
        "Bring every text into one form first, train and test alike; then compare "
        "forms.",
        "A list of its words, in small letters, is such a form. A set does not take "
        "lists, but it takes tuples.",
    ),
    wrong=(
        Wrong(
            "to-the-letter",
            """
def leaked(train, test):
    return [place for place, text in enumerate(test) if text in train]
""",
            "Your function finds copies to the letter only; a capital or a full stop "
            "hides the others.",
        ),
        Wrong(
            "case-only",
            """
def leaked(train, test):
    seen = {text.lower() for text in train}
    return [place for place, text in enumerate(test) if text.lower() in seen]
""",
            "Capitals no longer matter, but two spaces or a comma still hide a copy "
            "from your function.",
        ),
        Wrong(
            "punctuation-kept",
            """
def leaked(train, test):
    seen = {" ".join(text.lower().split()) for text in train}
    return [
        place
        for place, text in enumerate(test)
        if " ".join(text.lower().split()) in seen
    ]
""",
            "Capitals and spaces no longer matter, but a comma or a full stop still "
            "makes a word another word.",
        ),
        Wrong(
            "run-together",
            _LEAKS.replace(
                'tuple(re.findall("[a-z0-9]+", text.lower()))',
                're.sub("[^a-z0-9]", "", text.lower())',
            ),
            "Your function runs the words together, so that two words can equal one: "
            "where a word ends matters.",
        ),
        Wrong(
            "punctuation-glues",
            """
import re

def leaked(train, test):
    def key(text):
        return re.sub("[^a-z0-9 ]", "", text.lower()).split()

    seen = [key(text) for text in train]
    return [place for place, text in enumerate(test) if key(text) in seen]
""",
            "Your function deletes punctuation, which glues words together: a hyphen "
            "or a comma separates, as a space does.",
        ),
        Wrong(
            "order-lost",
            _LEAKS.replace("tuple(", "tuple(sorted(").replace(
                "lower()))", "lower())))"
            ),
            "Your function takes the same words in another order for a copy: the order "
            "is part of the text.",
        ),
        Wrong(
            "words-as-a-set",
            _LEAKS.replace("tuple(", "frozenset("),
            "Your function compares sets, which forget the order, and how often a word "
            "comes: more texts look alike than are.",
        ),
        Wrong(
            "part-of-a-text",
            """
import re

def leaked(train, test):
    def key(text):
        return " " + " ".join(re.findall("[a-z0-9]+", text.lower())) + " "

    seen = [key(text) for text in train]
    return [
        place
        for place, text in enumerate(test)
        if any(key(text) in other for other in seen)
    ]
""",
            "Your function also reports a text that is only a part of a training text; "
            "the whole text should be the same.",
        ),
    ),
)

EXERCISES = [PAIRS, TWICE, TAPE, COUNTS, SCALE, SPLIT, LEAKS]
