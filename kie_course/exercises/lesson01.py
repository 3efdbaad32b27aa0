"""Exercises of lesson 01: before attention."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 01.1 rarity ----------------------------------------------------------------------

_WORDS = ["bread", "came", "late", "no", "refund", "the"]


def _rarity_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([["no"]], "plain"),
        ([["no"]], "smooth"),
        ([["no"]], "lucene"),
        ([["no", "no"], ["no", "way"]], "plain"),
        ([["no", "no"], ["no", "way"]], "smooth"),
        ([["no", "no"], ["no", "way"]], "lucene"),
    ]
    for form in ("plain", "smooth", "lucene") * 2:
        documents = [
            [_WORDS[i] for i in rng.integers(len(_WORDS), size=rng.integers(2, 7))]
            for _ in range(int(rng.integers(3, 6)))
        ]
        cases.append(([["the", "the"], *documents], form))
    return cases


def _rarity(documents: list, form: str) -> dict:
    """Ask for each word, document by document, whether it is there."""
    table = {}
    for word in sorted({word for document in documents for word in document}):
        n, total = len([d for d in documents if word in d]), len(documents)
        if form == "plain":
            table[word] = math.log(total) - math.log(n)
        elif form == "smooth":
            table[word] = 1 - math.log(n + 1) + math.log(total + 1)
        else:
            table[word] = math.log((total + 1) / (n + 0.5))
    return table


# What the wrong answers share; each changes one thing in it.
_RARITY = """
from math import log, log2

def rarity(documents, form):
    N = len(documents)
    words = {word for document in documents for word in document}
    table = {}
    for word in words:
        n = sum(word in document for document in documents)
        if form == "plain":
            table[word] = log(N / n)
        elif form == "smooth":
            table[word] = log((1 + N) / (1 + n)) + 1
        else:
            table[word] = log(1 + (N - n + 0.5) / (n + 0.5))
    return table
"""

RARITY = Exercise(
    id="01.1",
    title="Rarity, in three dialects",
    points=2,
    idea="Rarity counts documents, not occurrences, and its form has to be named.",
    function="rarity",
    cases=_rarity_cases,
    oracle=_rarity,
    hints=(
        "First find n for one word: a document counts once, however often the word "
        "stands in it.",
        "set(document) holds each word of a document once; or ask `word in document` "
        "for every document.",
        "The logarithm is the natural one; only one of the forms adds 1 behind it.",
    ),
    wrong=(
        Wrong(
            "occurrences-counted",
            _RARITY.replace("sum(word in document for", "sum(document.count(word) for"),
            "Your function counts how often a word occurs; rarity asks in how many "
            "documents it stands.",
        ),
        Wrong(
            "one-behind-forgotten",
            _RARITY.replace(" + 1\n", "\n"),
            "The smooth form lacks the 1 behind the logarithm, so a word of every "
            "document counts nothing.",
        ),
        Wrong(
            "one-inside-forgotten",
            _RARITY.replace("log(1 + (N - n + 0.5)", "log((N - n + 0.5)"),
            "Without a 1 inside, Lucene's form turns negative for words of more than "
            "half the documents.",
        ),
        Wrong(
            "not-smoothed",
            _RARITY.replace("log((1 + N) / (1 + n)) + 1", "log(N / n) + 1"),
            "The smooth form acts as if there were one more document, which holds "
            "every word.",
        ),
        Wrong(
            "upside-down",
            _RARITY.replace("log(N / n)", "log(n / N)").replace(
                "log((1 + N) / (1 + n))", "log((1 + n) / (1 + N))"
            ),
            "Your function rewards frequent words: the number of all documents "
            "belongs above the line.",
        ),
        Wrong(
            "in-bits",
            _RARITY.replace(" log(", " log2("),
            "The logarithm has base 2 here; asked is the natural one.",
        ),
    ),
)

# --- 01.2 stuffing --------------------------------------------------------------------


def _stuffing_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        (0, 10, 1.0, 0.0, 0.5),
        (10, 10, 1.0, 1.0, 0.5),
        (10, 10, 1.0, 1.0, 0.95),
        (10, 10, 1.5, 0.75, 0.1),
        (100, 50, 1.5, 0.75, 0.33),
        (100, 50, 1.5, 0.75, 0.87),
        (3, 4, 2.0, 1.0, 0.7),
    ]
    for _ in range(9):
        rest, mean = int(rng.integers(5, 300)), int(rng.integers(20, 200))
        k1, b = float(rng.choice([0.9, 1.2, 1.5, 2.0])), float(rng.choice([0.4, 0.75]))
        # An odd third digit: no whole number of repetitions gives the share exactly.
        share = float(rng.integers(20, 96)) / 100 + 0.0037
        cases.append((rest, mean, k1, b, share))
    return cases


def _stuffing(rest: int, mean: int, k1: float, b: float, share: float):
    """Add one word after the other, in exact numbers, up to what endless ones bring."""
    k1, b, share = (Fraction(repr(number)) for number in (k1, b, share))
    if share >= 1 / (1 + k1 * b / mean):
        return None
    f = 1
    while f < share * (f + k1 * (1 - b + b * Fraction(rest + f, mean))):
        f += 1
    return f


# What the wrong answers share; each changes one thing in it.
_STUFFING = """
def stuffing(rest, mean, k1, b, share):
    if share >= 1 / (1 + k1 * b / mean):
        return None
    f = 1
    while True:
        length = rest + f
        if f / (f + k1 * (1 - b + b * length / mean)) >= share - 1e-12:
            return f
        f += 1
"""

STUFFING = Exercise(
    id="01.2",
    title="Stuffing a page",
    points=2,
    idea=(
        "Repetition saturates, and it lengthens the page: some shares are out of "
        "reach for ever."
    ),
    function="stuffing",
    cases=_stuffing_cases,
    oracle=_stuffing,
    hints=(
        "Try f = 1, 2, 3, … and stop at the first that is enough. When will none be?",
        "Let f grow without end: the share goes to 1 / (1 + k1 · b / mean), and never "
        "reaches it.",
        "Or solve it: collect everything that is multiplied by f on one side.",
    ),
    wrong=(
        Wrong(
            "length-fixed",
            _STUFFING.replace("length = rest + f", "length = rest").replace(
                "1 / (1 + k1 * b / mean)", "1"
            ),
            "Your page does not grow: every repetition adds a word to its length.",
        ),
        Wrong(
            "length-not-used",
            _STUFFING.replace("1 - b + b * length / mean", "1").replace(
                "1 / (1 + k1 * b / mean)", "1"
            ),
            "Your function treats every page as one of mean length; longer pages are "
            "held to a stricter rule.",
        ),
        Wrong(
            "one-too-few",
            _STUFFING.replace("return f", "return max(f - 1, 1)"),
            "That is one repetition too few: it must bring at least the share.",
        ),
        Wrong(
            "b-turned",
            _STUFFING.replace(
                "1 - b + b * length / mean", "b + (1 - b) * length / mean"
            ).replace("1 / (1 + k1 * b / mean)", "1 / (1 + k1 * (1 - b) / mean)"),
            "b and 1 - b have changed places: b = 0 should switch the length off.",
        ),
        Wrong(
            "without-end",
            """
def stuffing(rest, mean, k1, b, share):
    f = 1
    while f < 100_000:
        if f / (f + k1 * (1 - b + b * (rest + f) / mean)) >= share - 1e-12:
            return f
        f += 1
    return f
""",
            "Where no number of repetitions is enough your function gives a number all "
            "the same; None is asked for.",
        ),
    ),
)

# --- 01.3 rank ------------------------------------------------------------------------


def _rank_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([[2.0]], 0.5),
        ([[3.0, 0.0], [0.0, 1.0]], 0.9),
        ([[3.0, 0.0], [0.0, 1.0]], 0.95),
        ([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]], 0.5),
        ([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]], 0.8),
        ([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]], 1.0),
        ([[1.0, 1.0], [1.0, 1.0]], 1.0),
    ]
    for share in (0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
        shape = int(rng.integers(4, 7)), int(rng.integers(4, 7))
        # Far from 0, so that taking the mean off changes much.
        cases.append((rng.integers(0, 6, shape).astype(float) + np.eye(*shape), share))
    return [(np.array(table), share) for table, share in cases]


def _rank(table: np.ndarray, share: float) -> int:
    """Take the strongest direction off, again and again, and look at what is left."""
    values = np.sort(np.linalg.eigvalsh(table.T @ table))[::-1]
    whole, kept = float((table**2).sum()), 0.0
    for k, value in enumerate(values.tolist(), start=1):
        kept += value
        if kept >= (share - 1e-9) * whole:
            return k
    return len(values)


# What the wrong answers share; each changes one thing in it.
_RANK = """
import numpy as np

def smallest_rank(table, share):
    parts = np.linalg.svd(table, compute_uv=False) ** 2
    kept = np.cumsum(parts) / parts.sum()
    return int(np.sum(kept < share - 1e-9)) + 1
"""

RANK = Exercise(
    id="01.3",
    title="How much rank is enough?",
    points=2,
    idea="The squared singular values say what each rank adds, strongest first.",
    function="smallest_rank",
    cases=_rank_cases,
    oracle=_rank,
    hints=(
        "np.linalg.svd(table, compute_uv=False) gives the singular values, largest "
        "first.",
        "The sum of squares of a table is the sum of its *squared* singular values.",
        "Add them up one by one, and count how many are needed.",
    ),
    wrong=(
        Wrong(
            "not-squared",
            _RANK.replace(" ** 2", ""),
            "The singular values are added as they are; what is kept is a sum of their "
            "squares.",
        ),
        Wrong(
            "one-too-few",
            _RANK.replace("- 1e-9)) + 1", "- 1e-9))"),
            "That is one too few: a rank of 0 keeps nothing.",
        ),
        Wrong(
            "one-too-many",
            _RANK.replace("- 1e-9)) + 1", "- 1e-9)) + 2"),
            "That is one more than needed.",
        ),
        Wrong(
            "centred",
            _RANK.replace("svd(table,", "svd(table - table.mean(axis=0),").replace(
                "/ parts.sum()", "/ max(parts.sum(), 1e-12)"
            ),
            "The mean of each word is taken off first; that is principal component "
            "analysis, and another table.",
        ),
        Wrong(
            "single-direction",
            _RANK.replace("np.cumsum(parts)", "parts"),
            "Each direction is judged alone; the directions of a rank-k table add up.",
        ),
        Wrong(
            "rank-of-the-table",
            """
import numpy as np

def smallest_rank(table, share):
    return int(np.linalg.matrix_rank(table))
""",
            "This is the rank of the whole table; a part of it may already keep the "
            "share.",
        ),
    ),
)

# --- 01.4 fold in ---------------------------------------------------------------------


def _fold_cases(rng: np.random.Generator) -> list[tuple]:
    toy = [[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]]
    cases: list[tuple] = [
        ([[2.0]], [1.0], 1),
        ([[3.0, 0.0], [0.0, 1.0]], [1.0, 1.0], 1),
        (toy, [0.0, 1, 0, 0], 2),
        (toy, [0.0, 1, 0, 0], 3),
        (toy, [1.0, 1, 0, 1], 1),
    ]
    while len(cases) < 12:
        shape = int(rng.integers(4, 6)), int(rng.integers(4, 6))
        table = rng.integers(0, 5, shape).astype(float)
        question = rng.integers(0, 3, shape[1]).astype(float)
        question[0] += 1
        k = int(rng.integers(2, 4))
        strength = np.linalg.svd(table, compute_uv=False)
        # The k strongest directions have to be the same for everybody.
        if strength[k - 1] - strength[k] > 0.3 and strength[k] > 0.3:
            cases.append((table, question, k))
    return [(np.array(table), np.array(question), k) for table, question, k in cases]


def _fold(table: np.ndarray, question: np.ndarray, k: int) -> list:
    """Project rows onto the directions' space, in the space of words; then compare."""
    _, vectors = np.linalg.eigh(table.T @ table)  # weakest first
    onto = np.zeros((table.shape[1], table.shape[1]))
    for vector in vectors.T[::-1][:k]:
        onto += np.outer(vector, vector)
    there = question @ onto
    cosines = []
    for row in table @ onto:
        sizes = math.sqrt(float(row @ row)) * math.sqrt(float(there @ there))
        cosines.append(float(row @ there) / sizes if sizes > 1e-8 else 0.0)
    return cosines


# What the wrong answers share; each changes one thing in it.
_FOLD = """
import numpy as np

def fold_in(table, question, k):
    U, sigma, Vt = np.linalg.svd(table, full_matrices=False)
    rows = table @ Vt[:k].T
    asked = question @ Vt[:k].T
    sizes = np.linalg.norm(rows, axis=1) * np.linalg.norm(asked)
    dots = rows @ asked
    return np.where(sizes > 1e-8, dots / np.maximum(sizes, 1e-8), 0.0)
"""

FOLD = Exercise(
    id="01.4",
    title="A question in LSA's space",
    points=3,
    idea="A new text is laid on the directions that the documents gave: nothing else.",
    function="fold_in",
    cases=_fold_cases,
    oracle=_fold,
    hints=(
        "np.linalg.svd(table, full_matrices=False) gives U, σ, Vᵀ; a row of Vᵀ is a "
        "direction in the space of words.",
        "Keep the first k rows. The coordinates of a row of weights are its dot "
        "products with them.",
        "Then plain cosines of coordinates; watch out for a row of zeros.",
    ),
    wrong=(
        Wrong(
            "nothing-dropped",
            _FOLD.replace("Vt[:k]", "Vt"),
            "All directions are kept, so that only shared words count: k is not used.",
        ),
        Wrong(
            "cosine-of-words",
            _FOLD.replace("table @ Vt[:k].T", "table").replace(
                "question @ Vt[:k].T", "question"
            ),
            "Your function compares the weights themselves; that is TF-IDF's cosine, "
            "before any direction is dropped.",
        ),
        Wrong(
            "weakest-kept",
            _FOLD.replace("Vt[:k]", "Vt[-k:]"),
            "The weakest directions are kept and the strongest dropped.",
        ),
        Wrong(
            "only-the-question-divided",
            _FOLD.replace(
                "asked = question @ Vt[:k].T", "asked = question @ Vt[:k].T / sigma[:k]"
            ),
            "The question is divided by the singular values and the documents are not: "
            "treat both alike.",
        ),
        Wrong(
            "documents-of-length-one",
            _FOLD.replace("rows = table @ Vt[:k].T", "rows = U[:, :k]"),
            "The documents' coordinates lack the singular values: U alone gives every "
            "direction the same weight.",
        ),
        Wrong(
            "lengths-of-words",
            _FOLD.replace(
                "np.linalg.norm(rows, axis=1) * np.linalg.norm(asked)",
                "np.linalg.norm(table, axis=1) * np.linalg.norm(question)",
            ),
            "Your lengths are those of the weights, before anything was dropped: take "
            "both in the k coordinates.",
        ),
        Wrong(
            "dot-for-cosine",
            _FOLD.replace(
                "return np.where(sizes > 1e-8, dots / np.maximum(sizes, 1e-8), 0.0)",
                "return np.where(sizes > 1e-8, dots, 0.0)",
            ),
            "These are dot products: a cosine divides by both lengths.",
        ),
    ),
)

# --- 01.5 overlap ---------------------------------------------------------------------


def _overlap_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([["a"]], [["a"]], [0.5], [0, 1]),
        ([["a", "b"], ["a"]], [["a"], ["a"]], [0.2, 1.0], [0, 0.5, 1]),
        ([[]], [["a"]], [0.7], [0, 0.5, 1]),
        ([["a", "a", "b"]], [["a", "c"]], [0.4], [0, 0.5, 0.6, 1]),
        ([["b", "b", "a"]], [["a", "c"]], [0.4], [0, 0.4, 0.5, 1]),
    ]
    letters = list("abcdefgh")
    for edges in ([0, 0.5, 1], [0, 0.25, 0.5, 0.75, 1], [0, 0.01, 0.5, 1]) * 2:
        number = int(rng.integers(5, 9))
        questions = [
            [letters[i] for i in rng.integers(8, size=rng.integers(1, 6))]
            for _ in range(number)
        ]
        articles = [
            [letters[i] for i in rng.integers(8, size=rng.integers(1, 9))]
            for _ in range(number)
        ]
        articles[0] = questions[0] + ["z"]  # all of the words
        scores = rng.random(number).round(2).tolist()
        cases.append((questions, articles, scores, edges))
    return cases


def _overlap(questions: list, articles: list, scores: list, edges: list) -> list:
    """For each bin, look for its questions in exact fractions."""
    shares = []
    for question, article in zip(questions, articles, strict=True):
        different = sorted({*question})
        hits = [word for word in different if word in article]
        shares.append(Fraction(len(hits), max(1, len(different))))
    means: list[float | None] = []
    for j, (low, high) in enumerate(pairwise(edges)):
        last = j == len(edges) - 2
        inside = [
            score
            for share, score in zip(shares, scores, strict=True)
            if low <= share < high or (last and share == high)
        ]
        means.append(math.fsum(inside) / len(inside) if inside else None)
    return means


# What the wrong answers share; each changes one thing in it.
_OVERLAP = """
def by_overlap(questions, articles, scores, edges):
    shares = []
    for question, article in zip(questions, articles):
        words = set(question)
        hits = len(words & set(article))
        shares.append(hits / len(words) if words else 0.0)
    means = []
    for j in range(len(edges) - 1):
        low, high = edges[j], edges[j + 1]
        last = j == len(edges) - 2
        inside = [
            score
            for share, score in zip(shares, scores)
            if low <= share and (share < high or (last and share <= high))
        ]
        means.append(sum(inside) / len(inside) if inside else None)
    return means
"""

OVERLAP = Exercise(
    id="01.5",
    title="Who wins when?",
    points=2,
    idea="Cut a mean by what a method depends on, and it shows where it fails.",
    function="by_overlap",
    cases=_overlap_cases,
    oracle=_overlap,
    hints=(
        "Sets give the different words; the share is taken of the question's words, "
        "not of the article's.",
        "First a list of shares, one a question; then one pass over them for each bin.",
        "A share of exactly 1 has no bin, unless the last one includes its upper end.",
    ),
    wrong=(
        Wrong(
            "share-of-the-article",
            _OVERLAP.replace("hits / len(words)", "hits / max(1, len(set(article)))"),
            "Your share is taken of the article's words; asked is which part of the "
            "question the article holds.",
        ),
        Wrong(
            "repetitions-counted",
            _OVERLAP.replace(
                "hits = len(words & set(article))",
                "hits = sum(word in article for word in question)",
            ).replace("hits / len(words)", "hits / len(question)"),
            "A word that the question repeats counts several times; only different "
            "words are to be counted.",
        ),
        Wrong(
            "full-overlap-lost",
            _OVERLAP.replace("last and share <= high", "False"),
            "Questions with all of their words in the article fall out of the last "
            "bin.",
        ),
        Wrong(
            "upper-end-included",
            _OVERLAP.replace(
                "low <= share and", "low <= share and not (low and low == share) and"
            ).replace("share < high", "share <= high"),
            "A share that lies on an edge goes into the bin below it; it belongs to "
            "the one above.",
        ),
        Wrong(
            "edge-in-both",
            _OVERLAP.replace("share < high", "share <= high"),
            "A share that lies on an edge counts in both bins; it belongs to the one "
            "above only.",
        ),
        Wrong(
            "empty-bin-zero",
            _OVERLAP.replace("else None", "else 0.0"),
            "A bin without questions has no mean: 0 would say that all of them failed.",
        ),
        Wrong(
            "empty-question-dropped",
            _OVERLAP.replace("if words else 0.0", "if words else -1.0"),
            "A question without a word is left out; here its overlap is 0.",
        ),
        Wrong(
            "sum-for-mean",
            _OVERLAP.replace("sum(inside) / len(inside)", "sum(inside)"),
            "The scores of a bin are added up, so that a large bin looks good: take "
            "their mean.",
        ),
    ),
)

# --- 01.6 purity ----------------------------------------------------------------------


def _purity_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([], []),
        ([0], ["city"]),
        ([0, 0], ["city", "city"]),
        ([0, 0], ["city", "news"]),
        ([0, 0, 0], ["city", "city", "news"]),
        ([0, 1, 2], ["city", "city", "news"]),
        ([0, 0, 0], ["news", "city", "city"]),
        ([1, 1, 1, 2], ["help", "help", "help", "city"]),
        ([1, 1, 1, 1, 2], ["help", "help", "city", "city", "help"]),
    ]
    kinds = ["city", "filing", "help", "news"]
    for size in (6, 7, 8, 9, 10, 12):
        topics = rng.integers(3, size=size).tolist()
        cases.append((topics, [kinds[i] for i in rng.integers(4, size=size)]))
    return cases


def _purity(topics: list, kinds: list) -> float:
    """Take each document out, and let the rest of its topic vote by hand."""
    right = []
    for i in range(len(kinds)):
        pool = [k for j, k in enumerate(kinds) if j != i and topics[j] == topics[i]]
        winner, most = None, 0
        for kind in sorted(pool):
            if pool.count(kind) > most:
                winner, most = kind, pool.count(kind)
        right.append(winner == kinds[i])
    return sum(right) / max(1, len(right))


# What the wrong answers share; each changes one thing in it.
_PURITY = """
def honest_purity(topics, kinds):
    right = 0
    for i in range(len(kinds)):
        places = [j for j in range(len(kinds)) if topics[j] == topics[i] and j != i]
        others = [kinds[j] for j in places]
        if others:
            best = min(set(others), key=lambda kind: (-others.count(kind), kind))
            right += best == kinds[i]
    return right / len(kinds) if kinds else 0.0
"""

PURITY = Exercise(
    id="01.6",
    title="A purity that cannot be bought",
    points=3,
    idea="Who may not vote for himself gains nothing from a topic of his own.",
    function="honest_purity",
    cases=_purity_cases,
    oracle=_purity,
    hints=(
        "For document i: collect the kinds of all *other* documents of its topic.",
        "Nobody else there: wrong. Else count the kinds, and settle ties by the "
        "alphabet.",
        "min with a key of two parts, minus the count and then the name, does both.",
    ),
    wrong=(
        Wrong(
            "votes-for-itself",
            _PURITY.replace(" and j != i", ""),
            "Each document votes for itself, so a topic of its own makes it right: "
            "that is plain purity.",
        ),
        Wrong(
            "votes-unless-alone",
            _PURITY.replace(" and j != i", "").replace(
                "if others:", "if len(others) > 1:"
            ),
            "Being alone counts as wrong, but where there are others each document "
            "still votes for itself.",
        ),
        Wrong(
            "singles-right",
            _PURITY.replace(
                "            right += best == kinds[i]\n",
                "            right += best == kinds[i]\n        else:\n"
                "            right += 1\n",
            ),
            "A document alone in its topic counts as right; with nobody to ask it is "
            "wrong.",
        ),
        Wrong(
            "singles-left-out",
            _PURITY.replace("right = 0", "right, asked = 0, 0")
            .replace(
                "        if others:\n", "        if others:\n            asked += 1\n"
            )
            .replace("right / len(kinds) if kinds", "right / asked if asked"),
            "Documents that are alone in their topic are left out of the mean; they "
            "count, as wrong.",
        ),
        Wrong(
            "ties-right",
            _PURITY.replace(
                "best == kinds[i]",
                "others.count(kinds[i]) == max(map(others.count, others))",
            ),
            "A tie counts as right for every kind in it; only the alphabetically first "
            "wins.",
        ),
        Wrong(
            "ties-first-seen",
            _PURITY.replace(
                "min(set(others), key=lambda kind: (-others.count(kind), kind))",
                "max(others, key=others.count)",
            ),
            "A tie goes to the kind that comes first in the list; the alphabet is to "
            "decide.",
        ),
        Wrong(
            "any-of-the-others",
            _PURITY.replace("best == kinds[i]", "kinds[i] in others"),
            "One other document of the same kind is enough for you; it has to be the "
            "most frequent kind.",
        ),
        Wrong(
            "whole-collection",
            _PURITY.replace("topics[j] == topics[i] and j != i", "j != i"),
            "All other documents vote, whatever their topic: the topics have no effect "
            "yet.",
        ),
    ),
)

# --- 01.7 memory ----------------------------------------------------------------------


def _past_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([0.5], [1.0]),
        ([0.3, 0.5], [1.0, 0.8]),
        ([0.3, 0.5, 0.5], [1.0, 1.0, 0.8]),
        ([0.9, 0.0, 0.9], [0.5, 0.7, 0.2]),
        ([0.2, 0.4, 1.0, 1.0], [0.1, 0.9, 0.3, 0.6]),
    ]
    for size in (3, 4, 5, 6, 7):
        forget, enter = rng.uniform(0.1, 0.95, (2, size)).round(2)
        cases.append((forget, enter))
    forget, enter = rng.uniform(0.1, 0.95, (2, 6)).round(2)
    forget[3] = 0.0
    cases.append((forget, enter))
    return [(np.array(forget), np.array(enter)) for forget, enter in cases]


def _past(forget: np.ndarray, enter: np.ndarray) -> list:
    """Offer 1 at one step and 0 at all others, and run the memory."""
    weights = []
    for place in range(len(forget)):
        memory = 0.0
        for t, (f, i) in enumerate(zip(forget.tolist(), enter.tolist(), strict=True)):
            memory = f * memory + i * (1.0 if t == place else 0.0)
        weights.append(memory)
    return weights


# What the wrong answers share; each changes one thing in it.
_PAST = """
import numpy as np

def weights_of_past(forget, enter):
    left = [np.prod(forget[s + 1:]) for s in range(len(forget))]
    return enter * np.array(left)
"""

PAST = Exercise(
    id="01.7",
    title="What a memory still holds",
    points=2,
    idea=(
        "A recurrent memory is a weighted sum of the past, too, but each weight can "
        "only shrink."
    ),
    function="weights_of_past",
    cases=_past_cases,
    oracle=_past,
    hints=(
        "Write the memory out for three words: which gates does the first offer pass?",
        "It enters by its own enter gate, and is then multiplied by the forget gates "
        "of all *later* steps.",
        "A product of nothing is 1: the last word has no later step.",
    ),
    wrong=(
        Wrong(
            "own-gate-counted",
            _PAST.replace("forget[s + 1:]", "forget[s:]"),
            "A word is weakened by the forget gate of its own step; that gate only "
            "touches what was there before.",
        ),
        Wrong(
            "gates-before",
            _PAST.replace("forget[s + 1:]", "forget[:s]"),
            "Your product runs over the steps before the word; what it has to pass "
            "comes after.",
        ),
        Wrong(
            "enter-forgotten",
            _PAST.replace("enter * np.array(left)", "np.array(left)"),
            "The enter gate is missing: it says how much of the offer came in.",
        ),
        Wrong(
            "enter-at-every-step",
            _PAST.replace("enter * np.array(left)", "np.array(left) * np.prod(enter)"),
            "Every weight is multiplied by all enter gates; an offer enters once, at "
            "its own step.",
        ),
        Wrong(
            "adds-up-to-one",
            _PAST.replace(
                "return enter * np.array(left)",
                "w = enter * np.array(left)\n    return w / w.sum()",
            ),
            "The weights are made to add up to 1, as a softmax does; a memory does not "
            "do that.",
        ),
        Wrong(
            "divided-out",
            """
import numpy as np

def weights_of_past(forget, enter):
    grown = np.cumprod(forget)
    with np.errstate(all="ignore"):
        return enter * grown[-1] / grown
""",
            "Your function divides two running products, which breaks as soon as a "
            "gate is 0: multiply from the end instead.",
        ),
    ),
)

EXERCISES = [RARITY, STUFFING, RANK, FOLD, OVERLAP, PURITY, PAST]
