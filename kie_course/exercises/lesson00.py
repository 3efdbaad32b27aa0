"""Exercises of lesson 00: compare, remember, rank, point into a text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 00.1 cosine ----------------------------------------------------------------------


def _cosine_cases(rng: np.random.Generator) -> list[tuple]:
    fixed = [([2], [3]), ([0, 0], [1, 2]), ([1, 2], [0, 0]), ([3, 4], [4, 3])]
    sizes = (2, 2, 3, 3, 5, 8)
    drawn = [(rng.integers(-4, 5, size), rng.integers(-4, 5, size)) for size in sizes]
    return [(np.array(a, float), np.array(b, float)) for a, b in [*fixed, *drawn]]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """From the law of cosines: lengths only, no dot product."""
    length_a, length_b = math.dist(a, 0 * a), math.dist(b, 0 * b)
    if not length_a or not length_b:
        return 0.0
    apart = math.dist(a, b)
    return (length_a**2 + length_b**2 - apart**2) / (2 * length_a * length_b)


COSINE = Exercise(
    id="00.1",
    title="Cosine by hand",
    points=1,
    idea="A cosine compares directions: both lengths are divided out.",
    function="cosine_of",
    cases=_cosine_cases,
    oracle=_cosine,
    hints=(
        "What stays the same when a vector is made twice as long? Its direction does.",
        "Start with the dot product, then take out what each vector's length adds.",
        "A zero vector has no direction: look at both lengths before you divide.",
    ),
    wrong=(
        Wrong(
            "lengths-kept",
            """
def cosine_of(a, b):
    return float(a @ b)
""",
            "This is the dot product: it grows with the vectors, but a cosine looks at "
            "directions alone.",
        ),
        Wrong(
            "one-side-normalised",
            """
import numpy as np

def cosine_of(a, b):
    length = np.linalg.norm(b)
    return float(a @ b / length) if length else 0.0
""",
            "Only the second vector is brought to length 1; the first one's length "
            "still counts.",
        ),
        Wrong(
            "other-side-normalised",
            """
import numpy as np

def cosine_of(a, b):
    length = np.linalg.norm(a)
    return float(a @ b / length) if length else 0.0
""",
            "Only the first vector is brought to length 1; the second one's length "
            "still counts.",
        ),
        Wrong(
            "squared-lengths",
            """
def cosine_of(a, b):
    size = (a @ a) * (b @ b)
    return float(a @ b / size) if size else 0.0
""",
            "A vector times itself is its length squared: a vector with itself should "
            "come out as 1, whatever its length.",
        ),
        Wrong(
            "zero-vector-nan",
            """
import numpy as np

def cosine_of(a, b):
    with np.errstate(invalid="ignore"):
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
""",
            "A zero vector has length 0, and 0 divided by 0 is no number: decide what "
            "an empty text is similar to.",
        ),
        Wrong(
            "zero-vector-crash",
            """
import math

def cosine_of(a, b):
    dot = sum(x * y for x, y in zip(a.tolist(), b.tolist()))
    lengths = [math.sqrt(sum(x * x for x in v.tolist())) for v in (a, b)]
    return dot / (lengths[0] * lengths[1])
""",
            "One of the vectors may be all zeros, and then there is nothing to divide "
            "by: that case needs an answer of its own.",
        ),
    ),
)

# --- 00.2 soft read -------------------------------------------------------------------


def _read_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [([0.0], [[2.0, 5.0]]), ([1.0, 1.0], [[0.0, 2.0], [4.0, 0.0]])]
    for items, width in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (6, 4)):
        scores = rng.normal(0, 1.5, items).round(1) + 0.0  # no -0.0 in messages
        cases.append((scores, rng.integers(-9, 10, (items, width))))
    large = rng.normal(0, 1, 3).round(1)
    cases.append((large + 1000, rng.integers(-9, 10, (3, 2))))
    cases.append((large - 1000, rng.integers(-9, 10, (3, 2))))
    return [(np.array(s, float), np.array(v, float)) for s, v in cases]


def _read(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each weight as 1 / (sum of e^(other - own)): no exponential of a score itself."""
    weights = [1 / sum(math.exp(other - own) for other in scores) for own in scores]
    columns = range(values.shape[1])
    return np.array(
        [
            sum(w * float(v[j]) for w, v in zip(weights, values, strict=True))
            for j in columns
        ]
    )


READ = Exercise(
    id="00.2",
    title="Read from a soft memory",
    points=2,
    idea=(
        "Softmax turns scores into shares of 1; the answer is one blend of the values."
    ),
    function="soft_read",
    cases=_read_cases,
    oracle=_read,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "Two steps: scores to weights (positive, adding up to 1), then one blend.",
        "Each value is multiplied by its weight; what comes out is as long as one "
        "value.",
        "Softmax does not notice when the same number is taken from every score. Which "
        "number keeps the exponential of 1000 from overflowing?",
    ),
    wrong=(
        Wrong(
            "not-normalised",
            """
import numpy as np

def soft_read(scores, values):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(scores) @ values
""",
            "Your weights do not add up to 1: exponentials alone are not yet shares.",
        ),
        Wrong(
            "not-summed",
            """
import numpy as np

def soft_read(scores, values):
    weights = np.exp(scores - scores.max())
    weights = weights / weights.sum()
    return weights[:, None] * values
""",
            "These are the weighted values one by one; an answer is one vector: "
            "what they add up to.",
        ),
        Wrong(
            "hard-lookup",
            """
def soft_read(scores, values):
    return values[scores.argmax()]
""",
            "This takes the best value and forgets the rest, as a dictionary would; a "
            "soft memory lets every value count.",
        ),
        Wrong(
            "scores-as-weights",
            """
import numpy as np

def soft_read(scores, values):
    with np.errstate(divide="ignore", invalid="ignore"):
        return (scores / scores.sum()) @ values
""",
            "Scores divided by their sum can be negative, or divide by zero: softmax "
            "makes them positive first.",
        ),
        Wrong(
            "plain-mean",
            """
def soft_read(scores, values):
    return values.mean(axis=0)
""",
            "Every value counts the same here: the scores never come into it.",
        ),
        Wrong(
            "overflow",
            """
import numpy as np

def soft_read(scores, values):
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        weights = np.exp(scores)
        return weights / weights.sum() @ values
""",
            "Right for small scores, but e to the 1000 is beyond any float: use that "
            "softmax depends on differences of scores only.",
        ),
    ),
)

# --- 00.3 rank ------------------------------------------------------------------------

PASSAGES = ("refund", "delivery", "invoice", "login", "warranty", "parking", "menu")


def _rank_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [([], [], 3), (["refund"], [0.5], 1)]
    cases.append((["menu", "login"], [0.3, 0.3], 2))
    cases.append((["menu", "invoice", "login"], [0.3, 0.9, 0.3], 3))
    for size in (3, 4, 5, 5, 6, 7):
        names = [str(name) for name in rng.permutation(PASSAGES)[:size]]
        # Few different scores: ties are certain.
        scores = (rng.integers(0, 3, size) / 4).tolist()
        cases.append((names, scores, int(rng.integers(2, size + 2))))
    return cases


def _rank(names: list[str], scores: list[float], k: int) -> list[str]:
    """Take the first of the largest, k times."""
    left, taken = list(range(len(names))), []
    while left and len(taken) < k:
        best = left[0]
        for i in left:
            if scores[i] > scores[best]:
                best = i
        taken.append(names[best])
        left.remove(best)
    return taken


RANK = Exercise(
    id="00.3",
    title="Rank, with a rule for ties",
    points=1,
    idea="A ranking needs a rule for equal scores, or it is a different one each time.",
    function="best_first",
    cases=_rank_cases,
    oracle=_rank,
    hints=(
        "Sort positions (0, 1, 2, …), not scores: a position still knows its name.",
        "Python's sorted is stable: what compares equal keeps its order.",
        "What could be the key, so that the smallest key is the largest score?",
    ),
    wrong=(
        Wrong(
            "worst-first",
            """
def best_first(names, scores, k):
    order = sorted(range(len(names)), key=lambda i: scores[i])
    return [names[i] for i in order[:k]]
""",
            "The least similar comes first here: a high similarity is a good one.",
        ),
        Wrong(
            "ties-reversed",
            """
def best_first(names, scores, k):
    order = sorted(range(len(names)), key=lambda i: scores[i])[::-1]
    return [names[i] for i in order[:k]]
""",
            "Turning an ascending list round turns its ties round as well: equal "
            "scores should keep their order.",
        ),
        Wrong(
            "ties-by-name",
            """
def best_first(names, scores, k):
    pairs = sorted(zip(names, scores), key=lambda pair: (-pair[1], pair[0]))
    return [name for name, _ in pairs[:k]]
""",
            "Equal scores come out in alphabetical order; the rule here is the order "
            "in which they were given.",
        ),
        Wrong(
            "ties-lost",
            """
def best_first(names, scores, k):
    by_score = dict(zip(scores, names))
    return [by_score[score] for score in sorted(by_score, reverse=True)[:k]]
""",
            "A dictionary holds one name for a score: of two equal scores one is lost.",
        ),
        Wrong(
            "ties-doubled",
            """
def best_first(names, scores, k):
    ordered = sorted(scores, reverse=True)[:k]
    return [names[scores.index(score)] for score in ordered]
""",
            "Looking a score up finds its first owner each time: with equal scores one "
            "name comes twice and another never.",
        ),
        Wrong(
            "k-ignored",
            """
def best_first(names, scores, k):
    order = sorted(range(len(names)), key=lambda i: -scores[i])
    return [names[i] for i in order]
""",
            "The order is right, but all of them come back: only the best k were asked "
            "for.",
        ),
    ),
)

# --- 00.4 offsets ---------------------------------------------------------------------

NAMES = ("Ann", "Anna", "Zoë", "Søren", "Noël", "Li", "Ana")
GAPS = (" ", "  ", "\n", " ")


def _text(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Join words with gaps of one or two characters, none before a comma or stop."""
    text = ""
    for word in words:
        gap = "" if word in ",." or not text else GAPS[rng.integers(len(GAPS))]
        text += gap + word
    return text


def _offset_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [("Zoë", ["Zoë"], 0, 1), ("to Oslo", ["to", "Oslo"], 1, 2)]
    cases.append(("banana an", ["banana", "an"], 1, 2))
    cases.append(("Anna met Ann", ["Anna", "met", "Ann"], 2, 3))
    cases.append(("  Li  Wei ,", ["Li", "Wei", ","], 0, 2))
    for extra in (0, 0, 1, 2, 3, 4):
        a, b, c = (str(name) for name in rng.permutation(NAMES)[:3])
        middle = [str(word) for word in rng.choice(["of", "and", "a", ","], extra)]
        # The mention's own words occur before it, too.
        words = [a, ",", b, "met", *middle, c, a, b, "."]
        start = len(words) - 3
        cases.append((_text(rng, words), words, start, start + 2))
    return cases


def _offsets(text: str, words: list[str], first: int, last: int) -> tuple[int, int]:
    """Walk through the text one character at a time."""
    position, spans = 0, []
    for word in words:
        while not text.startswith(word, position):
            position += 1
        spans.append((position, position + len(word)))
        position += len(word)
    return spans[first][0], spans[last - 1][1]


OFFSETS = Exercise(
    id="00.4",
    title="Where a mention stands in the text",
    points=2,
    idea="A mention is a slice of the text: its words are found from left to right.",
    function="mention_offsets",
    cases=_offset_cases,
    oracle=_offsets,
    hints=(
        "The same word may stand in the text twice: where should a search begin?",
        "str.index takes a second argument: the place from which it searches.",
        "Note start and end of every word on the way; the mention needs the start of "
        "one word and the end of another.",
    ),
    wrong=(
        Wrong(
            "searched-from-the-start",
            """
def mention_offsets(text, words, first, last):
    start = text.index(words[first])
    end = text.index(words[last - 1]) + len(words[last - 1])
    return start, end
""",
            "The first place where these letters stand may be another word, or a part "
            "of one: each word is to be sought after the one before it.",
        ),
        Wrong(
            "searched-inside-the-last-word",
            """
def mention_offsets(text, words, first, last):
    spans, position = [], 0
    for word in words:
        start = text.index(word, position)
        position = start + 1
        spans.append((start, start + len(word)))
    return spans[first][0], spans[last - 1][1]
""",
            "The next word is sought inside the one before it, where its letters may "
            "stand by chance.",
        ),
        Wrong(
            "one-space-assumed",
            """
def mention_offsets(text, words, first, last):
    start = len(" ".join(words[:first])) + (first > 0)
    return start, start + len(" ".join(words[first:last]))
""",
            "Between two words there may be two spaces, a line break or nothing: only "
            "the text itself knows where a word stands.",
        ),
        Wrong(
            "end-inclusive",
            """
def mention_offsets(text, words, first, last):
    spans, position = [], 0
    for word in words:
        start = text.index(word, position)
        position = start + len(word)
        spans.append((start, position))
    return spans[first][0], spans[last - 1][1] - 1
""",
            "Your end is the last character itself; an end is one past it, so that "
            "text[start:end] is the mention.",
        ),
        Wrong(
            "end-of-last-word-forgotten",
            """
def mention_offsets(text, words, first, last):
    starts, position = [], 0
    for word in words:
        starts.append(text.index(word, position))
        position = starts[-1] + len(word)
    return starts[first], starts[last - 1]
""",
            "The mention ends where its last word ends, not where that word begins.",
        ),
        Wrong(
            "bytes-counted",
            """
def mention_offsets(text, words, first, last):
    data, spans, position = text.encode(), [], 0
    for word in words:
        start = data.index(word.encode(), position)
        position = start + len(word.encode())
        spans.append((start, position))
    return spans[first][0], spans[last - 1][1]
""",
            "These offsets count bytes: an ë takes two of them, but it is one "
            "character.",
        ),
        Wrong(
            "first-word-only",
            """
def mention_offsets(text, words, first, last):
    spans, position = [], 0
    for word in words:
        start = text.index(word, position)
        position = start + len(word)
        spans.append((start, position))
    return spans[first]
""",
            "A mention can have several words: it goes on to the end of its last one.",
        ),
    ),
)

EXERCISES = [COSINE, READ, RANK, OFFSETS]
