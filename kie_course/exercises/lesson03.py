"""Exercises of lesson 03: cosine and dot product, their scale, temperature, slope."""

from __future__ import annotations

import math

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 03.1 cosine weights --------------------------------------------------------------


def _cosine_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[2, 0]], [[3, 4], [1, 0]], [1.0]),
        ([[1, 0]], [[0, 0], [2, 0], [-1, 0]], [0.5]),
        ([[0, 0], [3, 4]], [[1, 0], [0, 1], [4, 3]], [0.5, 0.1]),
    ]
    sizes = ((1, 3, 2), (2, 3, 2), (3, 2, 2), (2, 4, 3), (3, 5, 3), (4, 3, 4))
    for queries, keys, width in sizes:
        query = rng.integers(-4, 5, (queries, width))
        key = rng.integers(-4, 5, (keys, width))
        query[:, 0], key[:, 0] = 2, np.arange(keys) - 1  # never all the same
        key[-1] = 0
        temperature = rng.permutation([0.1, 0.3, 0.5, 2.0])[:queries]
        cases.append((query, key, temperature))
    return [tuple(np.array(x, float) for x in case) for case in cases]


def _cosine_weights(
    query: np.ndarray, key: np.ndarray, temperature: np.ndarray
) -> np.ndarray:
    """Pair by pair; a weight as 1 / (sum of e^(other - own))."""
    weights = np.zeros((len(query), len(key)))
    for i, q in enumerate(query):
        fits = []
        for k in key:
            lengths = math.hypot(*q) * math.hypot(*k)
            dot = math.fsum(a * b for a, b in zip(q, k, strict=True))
            fits.append(dot / lengths / temperature[i] if lengths else 0.0)
        for j, own in enumerate(fits):
            weights[i, j] = 1 / math.fsum(math.exp(other - own) for other in fits)
    return weights


# What the wrong answers share; each changes one thing in it.
_WEIGHTS = """
import numpy as np

def cosine_weights(query, key, temperature):
    def unit(rows):
        length = np.sqrt((rows ** 2).sum(axis=1, keepdims=True))
        return rows / np.where(length > 0, length, 1)

    scores = unit(query) @ unit(key).T / temperature[:, None]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
"""

COSINE_WEIGHTS = Exercise(
    id="03.1",
    title="Cosine weights, a temperature for each query",
    points=2,
    idea=(
        "A cosine forgets both lengths; the temperature alone says how sharp a query's "
        "weights are."
    ),
    function="cosine_weights",
    cases=_cosine_cases,
    oracle=_cosine_weights,
    tolerance=1e-5,
    hints=(
        "Bring queries and keys to length 1, each on its own: then a dot product is a "
        "cosine.",
        "The result has a row for each query. Give the temperatures a second axis of "
        "size 1, so that each divides a row of its own.",
        "A row of zeros has length 0. What could you divide it by, so that it stays a "
        "row of zeros?",
    ),
    wrong=(
        Wrong(
            "queries-keep-their-length",
            _WEIGHTS.replace("unit(query)", "query"),
            "Only your keys have length 1: the order of the weights is right, but a "
            "long query makes them sharper.",
        ),
        Wrong(
            "keys-keep-their-length",
            _WEIGHTS.replace("unit(key)", "key"),
            "Only your queries have length 1: a long key still draws weight by its "
            "length.",
        ),
        Wrong(
            "no-length-removed",
            _WEIGHTS.replace("unit(query) @ unit(key)", "query @ key"),
            "These are the weights of the dot product: both lengths still count.",
        ),
        Wrong(
            "temperature-multiplied",
            _WEIGHTS.replace("/ temperature", "* temperature"),
            "Your weights become flatter as the temperature falls: small should be "
            "sharp.",
        ),
        Wrong(
            "temperature-forgotten",
            _WEIGHTS.replace(" / temperature[:, None]", ""),
            "The temperatures have no effect in your function, and bare cosines cannot "
            "be sharp.",
        ),
        Wrong(
            "one-temperature-for-all",
            _WEIGHTS.replace("temperature[:, None]", "temperature.mean()"),
            "All queries share one temperature here; each brings its own.",
        ),
        Wrong(
            "softmax-over-queries",
            _WEIGHTS.replace(
                "scores.max(axis=1, keepdims=True)", "scores.max(axis=0)"
            ).replace("weights.sum(axis=1, keepdims=True)", "weights.sum(axis=0)"),
            "Your columns add up to 1, not your rows: the queries compete for a key, "
            "where keys should compete for a query.",
        ),
        Wrong(
            "zero-vector-nan",
            _WEIGHTS.replace(
                "return rows / np.where(length > 0, length, 1)",
                'with np.errstate(invalid="ignore"):\n            return rows / length',
            ),
            "A vector of zeros has no direction, and 0 divided by 0 is no number: it "
            "spoils the whole row of weights.",
        ),
    ),
)

# --- 03.2 the scale -------------------------------------------------------------------


def _scale_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(4, 1, 1.0, 1.0), (8, 2, 1.0, 1.0), (9, 1, 2.0, 1.0), (64, 4, 1.0, 0.5)]
    for _ in range(7):
        heads = int(rng.integers(2, 13))
        d_model = heads * int(rng.integers(2, 33))
        spreads = rng.choice([0.1, 0.2, 0.5, 1.5, 2.0, 3.0], 2, replace=False)
        cases.append((d_model, heads, *map(float, spreads)))
    return cases


def _scale(
    d_model: int, num_heads: int, query_spread: float, key_spread: float
) -> float:
    """Entries by coin flips, plus or minus the spread: variance by enumeration."""
    flips = d_model // num_heads
    variance = math.fsum(
        math.comb(flips, heads)
        / 2**flips
        * ((2 * heads - flips) * query_spread * key_spread) ** 2
        for heads in range(flips + 1)
    )
    return variance**-0.5


SCALE = Exercise(
    id="03.2",
    title="The scale of a head",
    points=1,
    idea=(
        "A dot product of independent entries spreads by the product of their spreads, "
        "times the root of how many entries a head has."
    ),
    function="score_scale",
    cases=_scale_cases,
    oracle=_scale,
    hints=(
        "How many entries does the query of one head have?",
        "Variances of independent summands add up. What is the variance of one "
        "summand, a query's entry times a key's?",
        "From the variance of the sum to its standard deviation, and from there to the "
        "factor that makes it 1.",
    ),
    wrong=(
        Wrong(
            "d-model-for-d-head",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return 1 / (query_spread * key_spread * d_model ** 0.5)
""",
            "You scale by the width of the whole model; the dot product is taken "
            "inside one head.",
        ),
        Wrong(
            "root-forgotten",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return num_heads / (query_spread * key_spread * d_model)
""",
            "This divides by the number of entries itself: the variance grows like it, "
            "but the standard deviation does not.",
        ),
        Wrong(
            "spreads-ignored",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return (num_heads / d_model) ** 0.5
""",
            "This is the usual scale, which takes it for granted that every entry has "
            "standard deviation 1.",
        ),
        Wrong(
            "variances-for-spreads",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return (num_heads / d_model) ** 0.5 / (query_spread * key_spread) ** 2
""",
            "Your scale treats the spreads twice over: it divides by variances where "
            "standard deviations are meant.",
        ),
        Wrong(
            "root-of-spreads",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return (num_heads / (d_model * query_spread * key_spread)) ** 0.5
""",
            "Your function takes the root of the spreads, too; they are standard "
            "deviations already, only the number of entries is to be rooted.",
        ),
        Wrong(
            "spreads-multiplied",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return query_spread * key_spread * (num_heads / d_model) ** 0.5
""",
            "Larger entries make larger scores, so the factor has to fall as the "
            "spreads grow; yours rises.",
        ),
        Wrong(
            "spread-for-factor",
            """
def score_scale(d_model, num_heads, query_spread, key_spread):
    return query_spread * key_spread * (d_model / num_heads) ** 0.5
""",
            "This is the standard deviation that the scores have; asked is the factor "
            "that brings it to 1.",
        ),
    ),
)

# --- 03.3 the temperature for a wanted weight -----------------------------------------


def _wanted_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(2, 0.75, -1.0), (10, 0.5, -1.0), (64, 0.5, 0.0), (1000, 0.9, -0.5)]
    for _ in range(7):
        n = int(rng.choice([3, 5, 8, 30, 100, 500, 5000]))
        share = float(rng.choice([0.65, 0.72, 0.85, 0.95]))
        cases.append((n, share, float(rng.choice([-0.75, -0.45, -0.25, 0.15, 0.25]))))
    return cases


def _wanted(n: int, share: float, lowest: float) -> float:
    """Halve an interval of temperatures until the best case has the wanted weight."""
    cold, hot = 1e-3, 1e3
    for _ in range(200):
        middle = math.sqrt(cold * hot)
        rivals = math.fsum(math.exp((lowest - 1) / middle) for _ in range(n - 1))
        if 1 / (1 + rivals) > share:
            cold = middle
        else:
            hot = middle
    return cold


WANTED = Exercise(
    id="03.3",
    title="The temperature for a wanted weight",
    points=2,
    idea=(
        "A cosine has a short scale: the more keys compete and the closer they lie, "
        "the smaller the temperature must be."
    ),
    function="temperature_for",
    cases=_wanted_cases,
    oracle=_wanted,
    tolerance=1e-5,
    hints=(
        "In the best case one key has the cosine 1, and what have the n - 1 others?",
        "Divide numerator and denominator of the best weight by the numerator: only "
        "the difference of the two cosines is left.",
        "Set it equal to the share, and bring the exponential to one side. The odds of "
        "the share, share against the rest, come out.",
    ),
    wrong=(
        Wrong(
            "lowest-ignored",
            """
import math

def temperature_for(n, share, lowest):
    return 2 / math.log((n - 1) * share / (1 - share))
""",
            "Your function lets the rivals sink to -1 every time; here no cosine is "
            "below `lowest`.",
        ),
        Wrong(
            "winner-counted-as-a-rival",
            """
import math

def temperature_for(n, share, lowest):
    return (1 - lowest) / math.log(n * share / (1 - share))
""",
            "The winner is one of the n keys, but it is no rival of its own.",
        ),
        Wrong(
            "share-for-odds",
            """
import math

def temperature_for(n, share, lowest):
    return (1 - lowest) / math.log((n - 1) * share)
""",
            "The winner's weight is to be compared with what is left for all others, "
            "not with the whole.",
        ),
        Wrong(
            "rivals-not-counted",
            """
import math

def temperature_for(n, share, lowest):
    return (1 - lowest) / math.log(share / (1 - share))
""",
            "This is right for a single rival: how many keys compete has no effect "
            "yet.",
        ),
        Wrong(
            "divided-by-the-rivals",
            """
import math

def temperature_for(n, share, lowest):
    return (1 - lowest) / math.log(share / (1 - share) / (n - 1))
""",
            "Your function divides the odds by the number of rivals; on the way to the "
            "other side of the equation it becomes a factor.",
        ),
        Wrong(
            "share-ignored",
            """
import math

def temperature_for(n, share, lowest):
    return (1 - lowest) / math.log(n - 1)
""",
            "This gives the winner as much as all others together, whatever share was "
            "wanted.",
        ),
        Wrong(
            "inverse-temperature",
            """
import math

def temperature_for(n, share, lowest):
    return math.log((n - 1) * share / (1 - share)) / (1 - lowest)
""",
            "This is the factor by which the cosines are multiplied; the temperature "
            "divides them.",
        ),
        Wrong(
            "cosine-of-the-winner-only",
            """
import math

def temperature_for(n, share, lowest):
    return 1 / math.log((n - 1) * share / (1 - share))
""",
            "Your function counts the winner's cosine and takes the rivals to be at 0; "
            "a softmax sees the difference of the two.",
        ),
    ),
)

# --- 03.4 the temperature that a query brings -----------------------------------------


def _own_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[1, 0]], [[3, 4], [5, 0]]),
        ([[2, 0]], [[2, 0], [1, 0]]),  # refused
        ([[3, 4]], [[0, 2], [2, 0], [0, -2]]),
        ([[1, 0, 0, 0], [2, 0, 0, 0]], [[3, 0, 0, 0], [0, 3, 0, 0]]),
        ([[1, 1], [1, 3]], [[3, 4], [6, 8], [5, 0]]),  # refused
        ([[1, 0]], [[0.1, 0.7], [0.5, 0.5]]),  # of one length, but for rounding
    ]
    for queries, keys, width in ((1, 3, 2), (2, 3, 3), (3, 2, 3), (3, 4, 4), (4, 3, 9)):
        base = rng.integers(1, 6, width)
        signed = [rng.permutation(base) * rng.choice([-1, 1], width)]
        for _ in range(keys - 2):
            signed.append(rng.permutation(base) * rng.choice([-1, 1], width))
        key = np.array([-signed[0], *signed])
        query = rng.integers(-4, 5, (queries, width))
        query[:, 0] = np.arange(queries) + 1
        for q in query:
            q[0] += q @ key[0] == 0  # else the first two keys would be equally good
        cases.append((query, key))
    return [tuple(np.array(x, float) for x in case) for case in cases]


def _own(query: np.ndarray, key: np.ndarray) -> list[float]:
    """Read it off two keys: how far their cosines differ, and the logs of weights."""
    lengths = [math.hypot(*k) for k in key]
    if max(lengths) - min(lengths) > 1e-9:
        raise ValueError("the keys differ in length")
    found = []
    for q in query:
        dots = [math.fsum(a * b for a, b in zip(q, k, strict=True)) for k in key]
        best, worst = max(dots), min(dots)
        cosines = [dot / math.hypot(*q) / lengths[0] for dot in (best, worst)]
        log_ratio = (best - worst) / math.sqrt(len(q))
        found.append((cosines[0] - cosines[1]) / log_ratio)
    return found


# What the wrong answers share; each changes one thing in it.
_OWN = """
import numpy as np

def own_temperatures(query, key):
    lengths = np.linalg.norm(key, axis=1)
    if not np.allclose(lengths, lengths[0]):
        raise ValueError("no temperature makes up for keys of different lengths")
    own = np.linalg.norm(query, axis=1)
    return (query.shape[1] ** 0.5 / (own * lengths[0])).tolist()
"""

OWN = Exercise(
    id="03.4",
    title="The temperature that a query brings",
    points=2,
    idea=(
        "With keys of one length, a dot product is a cosine whose temperature each "
        "query sets by its own length."
    ),
    function="own_temperatures",
    cases=_own_cases,
    oracle=_own,
    raises=(ValueError,),
    tolerance=1e-5,
    hints=(
        "Write the scaled dot product as a cosine times something. What is the "
        "something?",
        "It holds the query's length, the keys' length and the root of d. A "
        "temperature divides.",
        "If the keys differ in length, the something differs from key to key: then no "
        "temperature can do it. Compare lengths with a small tolerance.",
    ),
    wrong=(
        Wrong(
            "scale-forgotten",
            _OWN.replace("query.shape[1] ** 0.5", "1"),
            "Right for the bare dot product: the scaled one was divided by the root of "
            "d before.",
        ),
        Wrong(
            "scale-upside-down",
            _OWN.replace("query.shape[1] ** 0.5", "query.shape[1] ** -0.5"),
            "The root of d made the scores smaller, so the weights are flatter and the "
            "temperature is higher; yours is lower.",
        ),
        Wrong(
            "inverse",
            _OWN.replace(
                "query.shape[1] ** 0.5 / (own * lengths[0])",
                "own * lengths[0] / query.shape[1] ** 0.5",
            ),
            "Your temperature rises with the query's length, but a long query has "
            "sharp weights.",
        ),
        Wrong(
            "key-length-forgotten",
            _OWN.replace("(own * lengths[0])", "own"),
            "The keys' common length makes all scores larger, too: it is part of the "
            "temperature.",
        ),
        Wrong(
            "one-for-all-queries",
            _OWN.replace("(own * lengths[0])", "(own * 0 + own.mean() * lengths[0])"),
            "Your queries share one temperature; a dot product gives each its own.",
        ),
        Wrong(
            "squared-lengths",
            _OWN.replace("(own * lengths[0])", "(own * lengths[0]) ** 2"),
            "Each length enters the dot product once, not squared.",
        ),
        Wrong(
            "unequal-keys-accepted",
            _OWN.replace("if not np.allclose(lengths, lengths[0]):", "if False:"),
            "Your function answers also for keys of different lengths, where no single "
            "temperature can make the two kinds of weights equal.",
        ),
        Wrong(
            "unequal-queries-refused",
            _OWN.replace(
                "    return (query",
                "    if not np.allclose(own, own[0]):\n"
                "        raise ValueError(own)\n"
                "    return (query",
            ),
            "Your function refuses queries of different lengths; each may have a "
            "temperature of its own, only the keys need the same length.",
        ),
    ),
)

# --- 03.5 backward --------------------------------------------------------------------


def _backward_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[0.25, 0.5, 0.25]], [[0, 1, 0]], 1.0),
        ([[1, 0, 0]], [[3, -2, 5]], 0.5),
        ([[0.5, 0.5], [0.25, 0.75]], [[1, -1], [2, 2]], 2.0),
    ]
    for rows, columns in ((1, 2), (2, 2), (2, 3), (3, 2), (3, 4), (4, 5)):
        counts = rng.integers(1, 9, (rows, columns))
        weights = counts / counts.sum(axis=1, keepdims=True)
        upstream = rng.integers(-5, 6, (rows, columns))
        upstream[:, 0] = np.arange(rows) * 2 - 3  # rows with different means
        cases.append((weights, upstream, float(rng.choice([0.2, 0.5, 4.0]))))
    return [(np.array(w, float), np.array(g, float), t) for w, g, t in cases]


def _backward(
    weights: np.ndarray, upstream: np.ndarray, temperature: float
) -> np.ndarray:
    """Row by row, with the Jacobian written out entry by entry."""
    slope = np.zeros(weights.shape)
    for p, g, out in zip(weights, upstream, slope, strict=True):
        for j in range(len(p)):
            column = [p[i] * ((i == j) - p[j]) / temperature for i in range(len(p))]
            out[j] = math.fsum(a * b for a, b in zip(column, g, strict=True))
    return slope


# What the wrong answers share; each changes one thing in it.
_BACKWARD = """
def softmax_backward(weights, upstream, temperature):
    middle = (weights * upstream).sum(axis=1, keepdims=True)
    return weights * (upstream - middle) / temperature
"""

BACKWARD = Exercise(
    id="03.5",
    title="Backward through a softmax",
    points=3,
    idea=(
        "A score gains by how far its upstream slope lies above the weighted mean, "
        "times its own weight."
    ),
    function="softmax_backward",
    cases=_backward_cases,
    oracle=_backward,
    hints=(
        "Write out one entry of upstream times Jacobian. Two sums come out: one of "
        "them has a single term.",
        "The other sum does not depend on which score you ask about: it is one number "
        "a row, a mean of the upstream with the weights.",
        "The temperature divides the scores, so by the chain rule it divides the "
        "slope.",
    ),
    wrong=(
        Wrong(
            "own-term-only",
            _BACKWARD.replace("(upstream - middle)", "upstream"),
            "A score that rises takes weight away from all others: that part of the "
            "Jacobian is missing.",
        ),
        Wrong(
            "diagonal-only",
            _BACKWARD.replace("(upstream - middle)", "(1 - weights) * upstream"),
            "You use the Jacobian's diagonal alone; every score moves every weight.",
        ),
        Wrong(
            "plain-mean",
            _BACKWARD.replace("(weights * upstream).sum", "upstream.mean"),
            "You compare with the plain mean of the upstream; the mean that counts is "
            "weighted.",
        ),
        Wrong(
            "cross-entropy",
            """
def softmax_backward(weights, upstream, temperature):
    return (weights - upstream) / temperature
""",
            "Weights minus target is the slope of cross-entropy; here `upstream` is "
            "any slope that arrives at the weights, not a target.",
        ),
        Wrong(
            "rows-mixed",
            _BACKWARD.replace(".sum(axis=1, keepdims=True)", ".sum()"),
            "Your function adds over the whole batch; each row is a softmax of its "
            "own.",
        ),
        Wrong(
            "temperature-forgotten",
            _BACKWARD.replace(" / temperature", ""),
            "This is the slope for the divided scores; asked is the slope for the "
            "scores before the division.",
        ),
        Wrong(
            "temperature-multiplied",
            _BACKWARD.replace("/ temperature", "* temperature"),
            "In your function a small temperature flattens the slope; it should "
            "steepen it.",
        ),
    ),
)

# --- 03.6 the floor with copies -------------------------------------------------------


def _copies_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(2, 1, 1.0), (2, 2, 1.0), (3, 2, 0.5), (8, 4, 1.0)]
    for _ in range(7):
        topics, copies = int(rng.integers(3, 13)), int(rng.integers(2, 6))
        cases.append((topics, copies, float(rng.choice([0.2, 0.3, 0.5, 2.0]))))
    return cases


def _copies(topics: int, copies: int, temperature: float) -> float:
    """Build the batch: corners of a simplex, each several times; then the loss."""
    corners = []
    for i in range(topics):
        corner = [(i == j) - 1 / topics for j in range(topics)]
        corners += [[x / math.hypot(*corner) for x in corner]] * copies
    losses = []
    for own, query in enumerate(corners):
        cosines = [
            math.fsum(a * b for a, b in zip(query, key, strict=True)) for key in corners
        ]
        rivals = [math.exp((other - cosines[own]) / temperature) for other in cosines]
        losses.append(math.log(math.fsum(rivals)))
    return math.fsum(losses) / len(losses)


COPIES = Exercise(
    id="03.6",
    title="The floor, with copies in the batch",
    points=2,
    idea=(
        "A copy is a rival that cannot be pushed away: the loss stays above the log of "
        "how many there are."
    ),
    function="floor_with_copies",
    cases=_copies_cases,
    oracle=_copies,
    hints=(
        "Sort the keys of one query into kinds: its own and the copies of it; the "
        "rest. What is the cosine of each kind, and how many are there?",
        "The loss is the log of a sum of e^((other - own) / temperature), over all "
        "keys. For a copy the difference is 0.",
        "Which number decides how far two different texts can be apart: that of the "
        "topics, or that of the pairs?",
    ),
    wrong=(
        Wrong(
            "copies-ignored",
            """
import math

def floor_with_copies(topics, copies, temperature):
    gap = topics / (topics - 1)
    return math.log(1 + (topics - 1) * math.exp(-gap / temperature))
""",
            "This is the floor of a batch that holds each text once.",
        ),
        Wrong(
            "copies-masked",
            """
import math

def floor_with_copies(topics, copies, temperature):
    gap, others = topics / (topics - 1), (topics - 1) * copies
    return math.log(1 + others * math.exp(-gap / temperature))
""",
            "Your function leaves the copies out, as a mask would; here nobody masked "
            "them.",
        ),
        Wrong(
            "copies-pushed-apart",
            """
import math

def floor_with_copies(topics, copies, temperature):
    n = topics * copies
    return math.log(1 + (n - 1) * math.exp(-n / (n - 1) / temperature))
""",
            "This treats all pairs as different texts; copies share one vector and "
            "cannot be pushed apart.",
        ),
        Wrong(
            "pairs-for-topics",
            """
import math

def floor_with_copies(topics, copies, temperature):
    n = topics * copies
    return math.log(copies + (n - copies) * math.exp(-n / (n - 1) / temperature))
""",
            "How far different texts can be apart depends on how many different ones "
            "there are, not on the size of the batch.",
        ),
        Wrong(
            "rivals-opposite",
            """
import math

def floor_with_copies(topics, copies, temperature):
    others = (topics - 1) * copies
    return math.log(copies + others * math.exp(-2 / temperature))
""",
            "One query could have all rivals at the cosine -1; a whole batch cannot.",
        ),
        Wrong(
            "temperature-multiplied",
            """
import math

def floor_with_copies(topics, copies, temperature):
    gap, others = topics / (topics - 1), (topics - 1) * copies
    return math.log(copies + others * math.exp(-gap * temperature))
""",
            "A smaller temperature should bring the floor down; in your function it "
            "lifts it.",
        ),
    ),
)

# --- 03.7 a Gaussian out of a dot product ---------------------------------------------


def _lengthen_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[2.0]], [[3.0]]),
        ([[2, 0]], [[3, 4], [0, 0]]),
        ([[0, 1], [1, 0]], [[2, 0]]),
    ]
    for queries, keys, width in ((1, 2, 2), (2, 3, 2), (3, 2, 3), (2, 4, 3), (3, 5, 4)):
        query = rng.integers(-4, 5, (queries, width))
        cases.append((query, rng.integers(-4, 5, (keys, width)) + 0.5))
    return [(np.array(q, float), np.array(k, float)) for q, k in cases]


def _lengthen(query: np.ndarray, key: np.ndarray) -> tuple[list, list]:
    """A key's new entry is its Gaussian score with the query 0, where the dot is 0."""
    longer = []
    for k in key.tolist():
        origin = [0.0] * len(k)
        longer.append([*k, -(math.dist(origin, k) ** 2) / 2])
    return [[*q, 1.0] for q in query.tolist()], longer


# What the wrong answers share; each changes one thing in it.
_LENGTHEN = """
import numpy as np

def lengthen(query, key):
    ones = np.ones((len(query), 1))
    fine = -(key ** 2).sum(axis=1, keepdims=True) / 2
    return np.hstack([query, ones]), np.hstack([key, fine])
"""

LENGTHEN = Exercise(
    id="03.7",
    title="A Gaussian out of a dot product",
    points=2,
    idea=(
        "A Gaussian is a dot product with a fine for long keys, and one more entry is "
        "room enough for the fine."
    ),
    function="lengthen",
    cases=_lengthen_cases,
    oracle=_lengthen,
    hints=(
        "Expand the square of the Gaussian score. Which of the three terms does the "
        "softmax not see?",
        "The queries' new entry is 1, so the keys' new entry is added to each score as "
        "it stands.",
        "It depends on the key alone: a number for each key, never above 0.",
    ),
    wrong=(
        Wrong(
            "fine-as-a-gift",
            _LENGTHEN.replace("-(key", "(key"),
            "Your long keys gain by their length; the Gaussian takes it away, as they "
            "lie far off.",
        ),
        Wrong(
            "half-forgotten",
            _LENGTHEN.replace(" / 2", ""),
            "The fine is twice too large: in the square, q·k stands twice and |k|² "
            "once.",
        ),
        Wrong(
            "length-for-its-square",
            _LENGTHEN.replace(
                "-(key ** 2).sum(axis=1, keepdims=True) / 2",
                "-np.linalg.norm(key, axis=1, keepdims=True) / 2",
            ),
            "The fine grows with the square of the key's length, not with the length.",
        ),
        Wrong(
            "query-fined",
            _LENGTHEN.replace(
                "np.ones((len(query), 1))",
                "-(query ** 2).sum(axis=1, keepdims=True) / 2",
            ),
            "The query's own length is the same for all its keys, so it needs no "
            "entry: its new entry is there to let the key's in.",
        ),
        Wrong(
            "sides-swapped",
            """
import numpy as np

def lengthen(query, key):
    fine = -(query ** 2).sum(axis=1, keepdims=True) / 2
    return np.hstack([query, fine]), np.hstack([key, np.ones((len(key), 1))])
""",
            "You fine the queries, which changes no weight: the fine belongs to the "
            "keys.",
        ),
        Wrong(
            "keys-made-equal",
            """
import numpy as np

def lengthen(query, key):
    length = np.linalg.norm(key, axis=1, keepdims=True)
    unit = key / np.where(length > 0, length, 1)
    return (
        np.hstack([query, np.ones((len(query), 1))]),
        np.hstack([unit, -np.ones((len(key), 1)) / 2]),
    )
""",
            "With keys of length 1 Gaussian and dot agree anyway; the point is to keep "
            "the keys as they are.",
        ),
    ),
)

EXERCISES = [COSINE_WEIGHTS, SCALE, WANTED, OWN, BACKWARD, COPIES, LENGTHEN]
