"""Exercises of lesson 07: score, train, fuse and measure rankings."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 07.1 BM25 ------------------------------------------------------------------------

WORDS = ("card", "lost", "refund", "parcel", "late", "login", "the")


def _bm25_cases(rng: np.random.Generator) -> list[tuple]:
    fixed = (
        ("card", [("", "card")], 1),
        ("", [("", "card"), ("", "lost")], 1),
        ("parking", [("", "card"), ("", "")], 2),
        ("card", [("", "card lost"), ("", "late")], 1),
        ("card", [("card", "lost"), ("lost", "card")], 2),
        ("card", [("card", "card lost"), ("late", "lost")], 2),
        (
            "lost card",
            [("", "card card card"), ("lost", "the card"), ("the", ""), ("", "")],
            1,
        ),
        ("card card", [("", "card the the"), ("", "the"), ("lost", "card late")], 3),
        ("the", [("the", "card"), ("", "the"), ("late", "")], 1),
    )
    cases = []
    for query, documents, weight in fixed:
        fields = [tuple(field.split() for field in document) for document in documents]
        cases.append((query.split(), *_fields(fields), weight, 1.5, 0.75))
    for size in (2, 3, 4, 5, 6):
        fields = [
            (rng.choice(WORDS, title).tolist(), rng.choice(WORDS, int(body)).tolist())
            for title, body in zip(
                rng.permutation(size) % 3, rng.permutation(size) * 2, strict=True
            )
        ]
        fields[0][0].append("card")  # one word at least
        weight = int(rng.integers(2, 5))
        k1, b = float(rng.choice([0.9, 1.2, 2.0])), float(rng.choice([0.3, 0.5, 0.9]))
        query = rng.choice(WORDS, 3).tolist()
        cases.append((query, *_fields(fields), weight, k1, b))
    return cases


def _fields(documents: list[tuple]) -> tuple[list, list]:
    titles, bodies = zip(*documents, strict=True)
    return list(titles), list(bodies)


def _bm25(
    query: list[str],
    titles: list[list[str]],
    bodies: list[list[str]],
    weight: int,
    k1: float,
    b: float,
) -> list[float]:
    """Write each title out `weight` times; the formula, term by term."""
    documents = [t * weight + body for t, body in zip(titles, bodies, strict=True)]
    number = len(documents)
    mean_length = sum(len(document) for document in documents) / number
    scores = []
    for document in documents:
        score = 0.0
        for word in query:
            frequency = sum(w == word for w in document)
            holders = sum(any(w == word for w in other) for other in documents)
            idf = math.log(1 + (number - holders + 0.5) / (holders + 0.5))
            length = 1 - b + b * len(document) / mean_length
            score += idf * frequency / (frequency + k1 * length)
        scores.append(score)
    return scores


# What the wrong answers share; each changes one thing in it.
_BM25 = """
import math

def score_bm25(query, titles, bodies, weight, k1, b):
    n = len(bodies)
    lengths = [weight * len(t) + len(d) for t, d in zip(titles, bodies)]
    mean_length = sum(lengths) / n
    scores = []
    for title, body, length in zip(titles, bodies, lengths):
        score = 0.0
        for word in query:
            tf = weight * title.count(word) + body.count(word)
            df = sum(word in t + d for t, d in zip(titles, bodies))
            idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
            share = length / mean_length
            score += idf * tf / (tf + k1 * (1 - b + b * share))
        scores.append(score)
    return scores
"""

BM25 = Exercise(
    id="07.1",
    title="BM25 with titles",
    points=2,
    idea=(
        "Rare words count more, repeats less and less, long documents are held back; "
        "a field that matters more is counted as if it stood there several times."
    ),
    function="score_bm25",
    cases=_bm25_cases,
    oracle=_bm25,
    hints=(
        "Where does a title that counts three times enter the formula? Three of its "
        "numbers change.",
        "tf counts the title's words `weight` times, and so do the document's length "
        "and the mean length. df stays: a document holds a word or it does not.",
        "Loop over documents, inside over the query's words, and add up the product of "
        "the two fractions; a word that comes twice in the query counts twice.",
    ),
    wrong=(
        Wrong(
            "titles-not-weighted",
            _BM25.replace("weight * title.count(word)", "title.count(word)").replace(
                "weight * len(t)", "len(t)"
            ),
            "A word of the title counts like any other: `weight` has no effect yet.",
        ),
        Wrong(
            "length-not-weighted",
            _BM25.replace("weight * len(t)", "len(t)"),
            "Your function counts the title's words `weight` times where they are "
            "found, but once in the document's length: what is counted several times "
            "should be so everywhere.",
        ),
        Wrong(
            "weight-after-saturation",
            _BM25.replace(
                "score += idf * tf / (tf + k1 * (1 - b + b * share))",
                "norm = k1 * (1 - b + b * share)\n"
                "            a, c = weight * title.count(word), body.count(word)\n"
                "            score += idf * (a / (a + norm) + c / (c + norm))",
            ),
            "Title and body are saturated apart and then added, so a word in both "
            "counts as two different words would: add the counts first.",
        ),
        Wrong(
            "length-ignored",
            _BM25.replace("(1 - b + b * share)", "1"),
            "The document's length plays no part: a long document holds many words by "
            "chance, and b says how much that is held against it.",
        ),
        Wrong(
            "no-saturation",
            _BM25.replace("tf / (tf + k1 * (1 - b + b * share))", "tf"),
            "A word that comes ten times counts ten times here; in BM25 each further "
            "repeat adds less.",
        ),
        Wrong(
            "idf-missing",
            _BM25.replace("score += idf * tf", "score += tf"),
            "A word that is in every document counts as much as a rare one: how rare a "
            "word is has no effect yet.",
        ),
        Wrong(
            "occurrences-for-documents",
            _BM25.replace(
                "df = sum(word in t + d for t, d in zip(titles, bodies))",
                "df = sum((t + d).count(word) for t, d in zip(titles, bodies))",
            ),
            "df is the number of documents that hold a word; a word that comes three "
            "times in one document is still in one.",
        ),
        Wrong(
            "query-as-a-set",
            _BM25.replace("for word in query:", "for word in set(query):"),
            "Your function counts a word once that comes twice in the question; the "
            "sum should go over the question's words as they stand.",
        ),
        Wrong(
            "idf-below-zero",
            _BM25.replace("math.log(1 + (", "math.log((").replace(
                "/ (df + 0.5))", "/ (df + 0.5) + 1e-300)"
            ),
            "Words that more than half of the documents hold get a negative weight: "
            "this is the older idf, without the 1 inside the logarithm.",
        ),
        Wrong(
            "older-numerator",
            _BM25.replace("idf * tf / (", "idf * tf * (k1 + 1) / ("),
            "The order is right, but every score is k1 + 1 times too large: that "
            "factor belongs to an older form.",
        ),
    ),
)

# --- 07.2 mean pooling ----------------------------------------------------------------


def _pool_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([[[2.0, 4.0]]], [[1]]),
        ([[[2.0, 4.0]]], [[0]]),
        ([[[1.0], [3.0], [8.0]]], [[1, 1, 0]]),
        ([[[1.0], [5.0]], [[2.0], [7.0]]], [[1, 0], [0, 0]]),
    ]
    for texts, tokens, width in ((1, 3, 2), (2, 3, 2), (3, 4, 2), (3, 5, 3), (5, 6, 2)):
        lengths = rng.integers(0, tokens + 1, texts)
        lengths[0] = tokens - 1  # some padding in each case
        mask = (np.arange(tokens) < lengths[:, None]).astype(int)
        cases.append((rng.integers(-9, 10, (texts, tokens, width)), mask))
    return [(np.array(hidden, float), np.array(mask)) for hidden, mask in cases]


def _pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Collect the real tokens of a text in a list, then average the list."""
    pooled = np.zeros((hidden.shape[0], hidden.shape[2]))
    for text in range(hidden.shape[0]):
        real = [hidden[text, i] for i in range(hidden.shape[1]) if mask[text, i] == 1]
        for column in range(hidden.shape[2]):
            if real:
                pooled[text, column] = math.fsum(v[column] for v in real) / len(real)
    return pooled


POOL = Exercise(
    id="07.2",
    title="Mean pooling with a mask",
    points=1,
    idea="The mean is over real tokens only, and an empty text has a vector, too.",
    function="pool_texts",
    cases=_pool_cases,
    oracle=_pool,
    hints=(
        "Two things depend on the mask: what is added up, and what it is divided by.",
        "Give the mask a last axis of size 1, and it multiplies every hidden "
        "dimension.",
        "How many tokens does an empty text have? Keep that number from being the "
        "divisor.",
    ),
    wrong=(
        Wrong(
            "mask-ignored",
            """
def pool_texts(hidden, mask):
    return hidden.mean(axis=1)
""",
            "Padding is averaged in: a text's vector would change with the length of "
            "its neighbours in the batch.",
        ),
        Wrong(
            "divided-by-the-width",
            """
def pool_texts(hidden, mask):
    return (hidden * mask[:, :, None]).sum(axis=1) / hidden.shape[1]
""",
            "The sum leaves padding out, but the divisor still counts it: short texts "
            "shrink towards zero.",
        ),
        Wrong(
            "empty-text-nan",
            """
import numpy as np

def pool_texts(hidden, mask):
    with np.errstate(invalid="ignore"):
        total = (hidden * mask[:, :, None]).sum(axis=1)
        return total / mask.sum(axis=1, keepdims=True)
""",
            "A text without tokens gives 0 divided by 0, which is no number, and one "
            "such vector spoils every score it meets.",
        ),
        Wrong(
            "one-divisor-for-all",
            """
def pool_texts(hidden, mask):
    return (hidden * mask[:, :, None]).sum(axis=1) / max(mask.sum(), 1)
""",
            "All texts are divided by the tokens of the whole batch; each has a number "
            "of its own.",
        ),
        Wrong(
            "first-token",
            """
def pool_texts(hidden, mask):
    return hidden[:, 0] * mask[:, :1]
""",
            "This is the first token's vector ([CLS] pooling); here all real tokens "
            "are to have their say.",
        ),
        Wrong(
            "mask-inverted",
            """
import numpy as np

def pool_texts(hidden, mask):
    pads = 1 - mask
    total = (hidden * pads[:, :, None]).sum(axis=1)
    return total / np.maximum(pads.sum(axis=1, keepdims=True), 1)
""",
            "You average the padding and leave the text out: 1 stands for a real "
            "token.",
        ),
    ),
)

# --- 07.3 InfoNCE ---------------------------------------------------------------------


def _nce_cases(rng: np.random.Generator) -> list[tuple]:
    one = np.array([[1.0, 0.0]])
    two = np.array([[1.0, 0.0], [0.6, 0.8]])
    cases = [
        (one, one, np.array([[True]]), 0.5),
        (two, two, np.eye(2, dtype=bool), 0.5),
        (two, two[:, ::-1] + 0.0, np.eye(2, dtype=bool), 0.5),
        (two, two, np.ones((2, 2), dtype=bool), 0.5),
        (two, two, np.array([[True, True], [False, True]]), 0.5),
        # Exponentials of such scores overflow.
        (two * 40, two * 40, np.eye(2, dtype=bool), 0.5),
        # So far below the others the right weight is no number but 0.
        (two * 40, two[:, ::-1] * 40 + 0.0, np.eye(2, dtype=bool), 0.5),
        (np.diag([2000.0, 1.0]), np.eye(2), np.eye(2, dtype=bool), 1.0),
    ]
    for pairs in (2, 3, 3, 4, 6):
        # Adding 0 makes 0.0 of -0.0, which would look odd in a message.
        query = rng.normal(size=(pairs, 3)).round(1) + 0.0
        document = rng.normal(size=(pairs, 3)).round(1) + 0.0
        known = (rng.random((pairs, pairs)) < 0.2) | np.eye(pairs, dtype=bool)
        known[0, -1] = True  # a false negative in each case
        cases.append((query, document, known, float(rng.choice([0.2, 0.5, 2.0]))))
    return cases


def _nce(
    query: np.ndarray, document: np.ndarray, known: np.ndarray, temperature: float
) -> float:
    """A loss is log(sum of e^(other - own)) over what competes, in both directions."""
    score = [[float(np.dot(q, d)) / temperature for d in document] for q in query]
    every, losses = range(len(query)), []
    for i in every:
        rivals = [j for j in every if j != i and not known[i, j]]
        losses.append(_log_sum([score[i][j] - score[i][i] for j in rivals]))
        rivals = [j for j in every if j != i and not known[j, i]]
        losses.append(_log_sum([score[j][i] - score[i][i] for j in rivals]))
    return math.fsum(losses) / len(losses)


def _log_sum(gaps: list[float]) -> float:
    top = max([0.0, *gaps])
    return top + math.log(math.fsum(math.exp(gap - top) for gap in [0.0, *gaps]))


# What the wrong answers share; each changes one thing in it.
_NCE = """
import numpy as np

def contrastive_loss(query, document, known, temperature):
    scores = query @ document.T / temperature
    own = np.eye(len(scores), dtype=bool)
    scores = np.where(known & ~own, -np.inf, scores)
    losses = []
    for table in (scores, scores.T):
        table = table - table.max(axis=1, keepdims=True)
        log_p = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
        losses.append(-log_p[own].mean())
    return float(sum(losses) / 2)
"""

NCE = Exercise(
    id="07.3",
    title="InfoNCE in both directions",
    points=3,
    idea=(
        "Picking the partner is a classification, seen from the question and from the "
        "document; other right answers are no rivals."
    ),
    function="contrastive_loss",
    cases=_nce_cases,
    oracle=_nce,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "One row a query, one column a document. A query picks along its row; along "
        "what does a document pick?",
        "The loss of a row is minus the log of the softmax weight at its own document. "
        "Which score makes a softmax weight exactly 0?",
        "Order: scores, temperature, mask what is known except the own pairs, take "
        "each row's maximum away, log-softmax, mean of what stands at (i, i). Then the "
        "same for the table turned over.",
    ),
    wrong=(
        Wrong(
            "queries-pick-only",
            _NCE.replace("(scores, scores.T)", "(scores, scores)"),
            "Only the queries pick a document; each document is to pick its query as "
            "well.",
        ),
        Wrong(
            "documents-pick-only",
            _NCE.replace("(scores, scores.T)", "(scores.T, scores.T)"),
            "Only the documents pick a query: your softmax runs over the queries both "
            "times.",
        ),
        Wrong(
            "temperature-multiplied",
            _NCE.replace("/ temperature", "* temperature"),
            "A small temperature should make the softmax sharper; here it makes it "
            "flatter.",
        ),
        Wrong(
            "temperature-forgotten",
            _NCE.replace(" / temperature", ""),
            "The temperature has no effect: without one, a cosine inside a softmax "
            "cannot be sharp.",
        ),
        Wrong(
            "double-softmax",
            _NCE.replace(
                "        log_p =",
                "        table = np.exp(table)\n"
                "        table = table / table.sum(axis=1, keepdims=True)\n"
                "        log_p =",
            ),
            "Probabilities go through a second softmax: they lie between 0 and 1, so "
            "even a perfect query keeps a loss.",
        ),
        Wrong(
            "false-negatives-kept",
            _NCE.replace("np.where(known & ~own, -np.inf, scores)", "scores"),
            "Documents that are known to answer the question are still pushed away "
            "from it.",
        ),
        Wrong(
            "masked-in-one-direction",
            _NCE.replace("    scores = np.where", "    masked = np.where").replace(
                "(scores, scores.T)", "(masked, scores.T)"
            ),
            "Known answers are no rivals where a query picks, but where a document "
            "picks its query they still are.",
        ),
        Wrong(
            "own-document-masked",
            _NCE.replace("known & ~own", "known"),
            "Each question's own document is known to answer it, too: masked with the "
            "others, it can never be picked.",
        ),
        Wrong(
            "zero-for-minus-infinity",
            _NCE.replace("-np.inf", "0.0"),
            "A masked score of 0 still takes part in the softmax, since e to the 0 is "
            "1.",
        ),
        Wrong(
            "summed-not-averaged",
            _NCE.replace("mean()", "sum()"),
            "The losses are added up, so a batch twice as large looks twice as bad.",
        ),
        Wrong(
            "one-maximum-for-all",
            _NCE.replace("table.max(axis=1, keepdims=True)", "table.max()").replace(
                "        log_p",
                '        with np.errstate(all="ignore"):\n            log_p',
            ),
            "You take the largest score of the whole table away: in a row that is far "
            "below it, every exponential becomes 0. Each row has a maximum of its own.",
        ),
        Wrong(
            "overflow",
            _NCE.replace(
                "        table = table - table.max(axis=1, keepdims=True)\n", ""
            ).replace(
                "        log_p",
                '        with np.errstate(all="ignore"):\n            log_p',
            ),
            "Right for moderate scores, but with large ones the exponentials overflow: "
            "a softmax depends on differences of scores only.",
        ),
    ),
)

# --- 07.4 nDCG ------------------------------------------------------------------------


def _ndcg_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([], {"d1": 1}, 3),
        (["d1"], {"d1": 1}, 3),
        (["d1"], {"d1": 0}, 3),
        (["d2", "d1"], {"d1": 1}, 3),
        (["d2", "d1"], {"d1": 1}, 1),
        (["d3", "d1"], {"d1": 1, "d2": 2, "d3": 0}, 2),
        (["d1", "d2", "d3"], {"d1": 1, "d2": 2, "d3": 3}, 2),
        (["d1", "d3", "d2"], {"d1": 1, "d2": 2, "d3": 0}, 10),
    ]
    for size in (4, 5, 6, 8, 10):
        names = [f"d{i}" for i in range(1, size + 1)]
        grades = dict(zip(names, rng.integers(0, 4, size).tolist(), strict=True))
        del grades[names[-1]]  # found, but never judged
        ranking = rng.permutation(names)[: int(rng.integers(2, size + 1))].tolist()
        cases.append((ranking, grades, int(rng.integers(2, size))))
    return cases


def _ndcg(ranking: list[str], grades: dict[str, int], k: int) -> float:
    """Two rankings are scored alike: the given one, and the best one possible."""

    def gained(documents: list[str]) -> float:
        total = 0.0
        for rank in range(1, k + 1):
            if rank <= len(documents) and documents[rank - 1] in grades:
                discount = math.log(2) / math.log(rank + 1)
                total += grades[documents[rank - 1]] * discount
        return total

    best = gained(sorted(grades, key=lambda document: grades[document], reverse=True))
    return gained(ranking) / best if best > 0 else 0.0


# What the wrong answers share; each changes one thing in it.
_NDCG = """
import math

def ndcg_at(ranking, grades, k):
    gains = [grades.get(document, 0) for document in ranking[:k]]
    ideal = sorted(grades.values(), reverse=True)[:k]
    def dcg(values):
        return sum(g / math.log2(rank + 1) for rank, g in enumerate(values, 1))
    return dcg(gains) / dcg(ideal) if dcg(ideal) else 0.0
"""

NDCG = Exercise(
    id="07.4",
    title="nDCG by hand",
    points=2,
    idea="A ranking is measured against the best one possible, found or not.",
    function="ndcg_at",
    cases=_ndcg_cases,
    oracle=_ndcg,
    hints=(
        "Write the discounted sum as a function of a list of grades: it is used twice.",
        "Rank 1 divides by 1, rank 3 by 2. What is the logarithm of?",
        "The ideal list comes from the judgements alone, best grades first, and it "
        "stops at k as well.",
    ),
    wrong=(
        Wrong(
            "ideal-from-the-retrieved",
            _NDCG.replace("sorted(grades.values(), ", "sorted(gains, "),
            "The ideal is built from what was found: a system that misses the best "
            "document is then forgiven.",
        ),
        Wrong(
            "log-of-the-rank",
            _NDCG.replace("math.log2(rank + 1)", "max(1, math.log2(rank))"),
            "Ranks 1 and 2 count the same here: the discount begins too late by one.",
        ),
        Wrong(
            "exponential-gain",
            _NDCG.replace("sum(g /", "sum((2**g - 1) /"),
            "This is the other form of nDCG, in which a grade of 3 is worth 7; here a "
            "grade is worth itself.",
        ),
        Wrong(
            "ideal-not-cut",
            _NDCG.replace("reverse=True)[:k]", "reverse=True)"),
            "The ideal goes on beyond rank k, so that even a perfect top k cannot "
            "reach 1.",
        ),
        Wrong(
            "k-ignored",
            _NDCG.replace("[:k]", ""),
            "Documents below rank k still count: nDCG@k looks at the first k alone.",
        ),
        Wrong(
            "grades-as-yes-or-no",
            _NDCG.replace("sum(g /", "sum((g > 0) /"),
            "Every relevant document counts the same; a higher grade should be worth "
            "more.",
        ),
        Wrong(
            "no-discount",
            _NDCG.replace("g / math.log2(rank + 1)", "g"),
            "The order within the first k makes no difference here: what stands lower "
            "should count less.",
        ),
        Wrong(
            "not-normalised",
            _NDCG.replace("dcg(gains) / dcg(ideal)", "dcg(gains)"),
            "This is DCG: without the best possible ranking as a measure, questions "
            "with many answers look better.",
        ),
    ),
)

# --- 07.5 MRR -------------------------------------------------------------------------


def _mrr_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ({}, {}, 10),
        ({"q1": ["d1"]}, {"q1": ["d1"]}, 10),
        ({"q1": []}, {"q1": ["d1"]}, 10),
        ({}, {"q1": ["d1"]}, 10),
        ({"q1": ["d2", "d1", "d3"]}, {"q1": ["d1", "d3"]}, 10),
        ({"q1": ["d2", "d3", "d1"]}, {"q1": ["d1"]}, 2),
        ({"q1": ["d1"], "q2": ["d2"]}, {"q1": ["d1"], "q2": ["d3"]}, 10),
        ({"q1": ["d2", "d1"], "q9": ["d1"]}, {"q1": ["d1"]}, 10),
    ]
    names = [f"d{i}" for i in range(1, 8)]
    for queries in (2, 3, 4, 6, 8):
        rankings, relevant = {}, {}
        for number in range(queries):
            query = f"q{number}"
            relevant[query] = rng.choice(names, rng.integers(1, 4), False).tolist()
            rankings[query] = rng.permutation(names)[: rng.integers(0, 8)].tolist()
        cases.append((rankings, relevant, int(rng.integers(2, 6))))
    return cases


def _mrr(
    rankings: dict[str, list[str]], relevant: dict[str, list[str]], k: int
) -> float:
    """For each judged query ask of rank 1, then rank 2, …: is it there?"""
    total = Fraction(0)
    for query, answers in relevant.items():
        ranking = rankings.get(query, [])
        for rank in range(1, k + 1):
            if rank <= len(ranking) and ranking[rank - 1] in answers:
                total += Fraction(1, rank)
                break
    return float(total / len(relevant)) if relevant else 0.0


MRR = Exercise(
    id="07.5",
    title="Mean reciprocal rank",
    points=1,
    idea="The first hit counts, and a question without one counts as 0: it stays in.",
    function="mrr_at",
    cases=_mrr_cases,
    oracle=_mrr,
    hints=(
        "Which questions does the mean go over: those that were answered or those that "
        "were asked?",
        "For one question, look for the first rank that holds a relevant document.",
        "Go through `relevant`; a question that `rankings` lacks has the ranking [].",
    ),
    wrong=(
        Wrong(
            "no-hit-dropped",
            """
def mrr_at(rankings, relevant, k):
    found = []
    for query, answers in relevant.items():
        top = rankings.get(query, [])[:k]
        ranks = [rank for rank, d in enumerate(top, 1) if d in answers]
        if ranks:
            found.append(1 / ranks[0])
    return sum(found) / len(found) if found else 0.0
""",
            "Questions without a hit vanish from the mean: a system could look better "
            "by finding nothing.",
        ),
        Wrong(
            "unjudged-queries-counted",
            """
def mrr_at(rankings, relevant, k):
    total = 0.0
    for query, ranking in rankings.items():
        for rank, document in enumerate(ranking[:k], 1):
            if document in relevant.get(query, []):
                total += 1 / rank
                break
    return total / len(rankings) if rankings else 0.0
""",
            "The mean goes over the questions that have a ranking; it should go over "
            "those that have a judgement.",
        ),
        Wrong(
            "every-hit-counts",
            """
def mrr_at(rankings, relevant, k):
    total = 0.0
    for query, answers in relevant.items():
        for rank, document in enumerate(rankings.get(query, [])[:k], 1):
            if document in answers:
                total += 1 / rank
    return total / len(relevant) if relevant else 0.0
""",
            "All hits of a question are added up; the reciprocal rank asks only how "
            "far one must read until the first.",
        ),
        Wrong(
            "last-hit",
            """
def mrr_at(rankings, relevant, k):
    total = 0.0
    for query, answers in relevant.items():
        best = 0.0
        for rank, document in enumerate(rankings.get(query, [])[:k], 1):
            if document in answers:
                best = 1 / rank
        total += best
    return total / len(relevant) if relevant else 0.0
""",
            "A later hit overwrites the first: the reader stops at the first one.",
        ),
        Wrong(
            "k-ignored",
            """
def mrr_at(rankings, relevant, k):
    total = 0.0
    for query, answers in relevant.items():
        for rank, document in enumerate(rankings.get(query, []), 1):
            if document in answers:
                total += 1 / rank
                break
    return total / len(relevant) if relevant else 0.0
""",
            "A hit below rank k still counts: nobody reads on that far.",
        ),
        Wrong(
            "ranks-from-zero",
            """
def mrr_at(rankings, relevant, k):
    total = 0.0
    for query, answers in relevant.items():
        for place, document in enumerate(rankings.get(query, [])[:k]):
            if document in answers:
                total += 1 / max(place, 1)
                break
    return total / len(relevant) if relevant else 0.0
""",
            "Ranks begin at 1, list positions at 0: your first and second place are "
            "worth the same.",
        ),
        Wrong(
            "inverse-of-the-mean-rank",
            """
def mrr_at(rankings, relevant, k):
    ranks = []
    for query, answers in relevant.items():
        top = rankings.get(query, [])[:k]
        ranks.append(next((r for r, d in enumerate(top, 1) if d in answers), k + 1))
    return len(ranks) / sum(ranks) if ranks else 0.0
""",
            "First the mean of the ranks, then its reciprocal, is another figure: one "
            "bad question would rule it.",
        ),
    ),
)

# --- 07.6 reciprocal rank fusion ------------------------------------------------------


def _fusion_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([], [], 60),
        ([[], []], [1, 1], 60),
        ([["d1"]], [1], 60),
        ([["d2"], ["d1"]], [1, 1], 60),
        ([["d2"], ["d1"]], [1, 2], 60),
        ([["d2", "d1"], ["d1", "d2"]], [1, 1], 60),
        # Seven equal scores, which no order but the one of first sight keeps by luck.
        ([[f"d{i}"] for i in (4, 7, 1, 6, 2, 5, 3)], [1] * 7, 60),
        ([[f"d{i}" for i in range(12, 0, -1)]], [2], 60),
        ([["d1", "d2", "d3"], ["d3"]], [1, 1], 60),
    ]
    names = [f"d{i}" for i in range(1, 9)]
    for systems, length in ((2, 3), (2, 4), (2, 6), (3, 4), (3, 6)):
        case: tuple | None = None
        # Adding in another order may break a tie that is none in exact numbers.
        while case is None or len({*_fractions(*case).values()}) < len(
            _fractions(*case)
        ):
            sizes = rng.integers(2, length + 1, systems)
            rankings = [rng.permutation(names)[:size].tolist() for size in sizes]
            weights = rng.choice([0.5, 1.0, 2.0, 3.0], systems, replace=False).tolist()
            constant = 1 if systems > 2 else int(rng.integers(1, 61))
            case = rankings, weights, constant
        cases.append(case)
    return cases


def _fractions(
    rankings: list[list[str]], weights: list[float], constant: int
) -> dict[str, Fraction]:
    """Exact score of each document, in the order of first sight."""
    seen = dict.fromkeys(document for ranking in rankings for document in ranking)
    return {
        document: sum(
            Fraction(weight) / (constant + 1 + ranking.index(document))
            for ranking, weight in zip(rankings, weights, strict=True)
            if document in ranking
        )
        for document in seen
    }


def _fusion(
    rankings: list[list[str]], weights: list[float], constant: int
) -> list[tuple[str, float]]:
    """Exact fractions; then take the first of the largest until none is left."""
    scores, fused = _fractions(rankings, weights, constant), []
    while scores:
        best = max(scores, key=scores.get)
        fused.append((best, float(scores.pop(best))))
    return fused


# What the wrong answers share; each changes one thing in it.
_FUSION = """
def fuse_ranks(rankings, weights, constant):
    scores = {}
    for ranking, weight in zip(rankings, weights):
        for rank, document in enumerate(ranking, 1):
            part = weight / (constant + rank)
            scores[document] = scores.get(document, 0.0) + part
    return sorted(scores.items(), key=lambda item: -item[1])
"""

FUSION = Exercise(
    id="07.6",
    title="Reciprocal rank fusion, with trust",
    points=1,
    idea=(
        "Ranks can be added without any scaling; what two systems find rises, and a "
        "better system has more votes."
    ),
    function="fuse_ranks",
    cases=_fusion_cases,
    oracle=_fusion,
    hints=(
        "Only ranks count: what does a document get for rank 1 in a ranking that "
        "counts twice?",
        "A dictionary can hold the sums; a document that a ranking lacks gets nothing "
        "from it.",
        "A dictionary remembers what came first, and sorted keeps that order among "
        "equal scores.",
    ),
    wrong=(
        Wrong(
            "weights-ignored",
            _FUSION.replace("weight / (constant", "1 / (constant"),
            "Each ranking has the same vote: its weight has no effect yet.",
        ),
        Wrong(
            "weight-on-the-rank",
            _FUSION.replace(
                "weight / (constant + rank)", "1 / (constant + rank / weight)"
            ),
            "The weight changes the rank, and with a constant of 60 that hardly "
            "counts: it should multiply the vote.",
        ),
        Wrong(
            "ranks-from-zero",
            _FUSION.replace("enumerate(ranking, 1)", "enumerate(ranking)"),
            "The best document has rank 1, not 0.",
        ),
        Wrong(
            "constant-forgotten",
            _FUSION.replace("(constant + rank)", "rank"),
            "Without the constant, one first place weighs as much as two second ones: "
            "the constant softens the top.",
        ),
        Wrong(
            "averaged-over-finders",
            _FUSION.replace(
                "    return",
                "    for document in scores:\n"
                "        scores[document] /= sum(document in r for r in rankings)\n"
                "    return",
            ),
            "Divided by the number of systems that found it, a document gains nothing "
            "from being found twice.",
        ),
        Wrong(
            "only-what-all-found",
            _FUSION.replace(
                "    return",
                "    scores = {d: s for d, s in scores.items()\n"
                "              if all(d in ranking for ranking in rankings)}\n"
                "    return",
            ),
            "A document that one system misses is thrown away: fusion is there to keep "
            "what either finds.",
        ),
        Wrong(
            "best-rank-only",
            _FUSION.replace(
                "scores.get(document, 0.0) + part",
                "max(scores.get(document, 0.0), part)",
            ),
            "Only the better of its ranks counts for a document; the votes of all "
            "systems should add up.",
        ),
        Wrong(
            "worst-first",
            _FUSION.replace("-item[1]", "item[1]"),
            "The scores are right, but the lowest comes first: more votes are better.",
        ),
        Wrong(
            "ties-by-name",
            _FUSION.replace("key=lambda item: -item[1]", "key=lambda i: (-i[1], i[0])"),
            "Your function puts equal scores in alphabetical order; they should keep "
            "the order in which they were first seen.",
        ),
    ),
)

# --- 07.7 paired bootstrap ------------------------------------------------------------


def _bootstrap_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        ([0.5], [0.2], [[0], [0]]),
        ([1.0, 0.0], [0.0, 0.0], [[0, 0], [1, 1], [0, 1]]),
        ([0.3, 0.6], [0.3, 0.6], [[0, 1], [1, 1], [0, 0], [1, 0]]),
    ]
    for queries, draws in ((2, 6), (3, 8), (4, 10), (6, 20), (10, 40), (20, 60)):
        second = rng.random(queries).round(2)
        first = (second + rng.normal(0.1, 0.2, queries)).round(2)
        cases.append((first, second, rng.integers(0, queries, (draws, queries))))
    return [(np.array(a), np.array(b), np.array(draws)) for a, b, draws in cases]


def _bootstrap(
    first: np.ndarray, second: np.ndarray, draws: np.ndarray
) -> tuple[float, float, float]:
    """One draw at a time; both ends read off the sorted list by hand."""
    gaps = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    means = sorted(math.fsum(gaps[i] for i in row) / len(row) for row in draws)

    def quantile(share: float) -> float:
        place = share * (len(means) - 1)
        below = math.floor(place)
        above = min(below + 1, len(means) - 1)
        return means[below] + (place - below) * (means[above] - means[below])

    return math.fsum(gaps) / len(gaps), quantile(0.025), quantile(0.975)


# What the wrong answers share; each changes one thing in it.
_BOOTSTRAP = """
import numpy as np

def bootstrap_gap(first, second, draws):
    gaps = first - second
    means = gaps[draws].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(gaps.mean()), float(low), float(high)
"""

BOOTSTRAP = Exercise(
    id="07.7",
    title="Is it really better? A paired bootstrap",
    points=2,
    idea="Both systems meet the same questions: draw questions, compare on each draw.",
    function="bootstrap_gap",
    cases=_bootstrap_cases,
    oracle=_bootstrap,
    hints=(
        "What one number does each question give, once both systems have answered it?",
        "A row of `draws` picks questions, some twice: what is the mean over that row?",
        "NumPy can index with the whole table at once; the mean then goes over one "
        "axis, the percentiles over the other.",
    ),
    wrong=(
        Wrong(
            "intervals-subtracted",
            """
import numpy as np

def bootstrap_gap(first, second, draws):
    a = np.percentile(first[draws].mean(axis=1), [2.5, 97.5])
    b = np.percentile(second[draws].mean(axis=1), [2.5, 97.5])
    return float((first - second).mean()), float(a[0] - b[0]), float(a[1] - b[1])
""",
            "Each system gets its own interval, and these are subtracted: that the "
            "questions are the same for both is lost.",
        ),
        Wrong(
            "one-side-drawn",
            """
import numpy as np

def bootstrap_gap(first, second, draws):
    means = first[draws].mean(axis=1) - second.mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return float((first - second).mean()), float(low), float(high)
""",
            "Only the first system meets the drawn questions; a hard draw would count "
            "against it alone.",
        ),
        Wrong(
            "shares-for-percent",
            _BOOTSTRAP.replace("[2.5, 97.5]", "[0.025, 0.975]"),
            "The two ends nearly coincide, both at the low side: look up in which unit "
            "your function expects the shares.",
        ),
        Wrong(
            "five-percent-at-each-end",
            _BOOTSTRAP.replace("[2.5, 97.5]", "[5, 95]"),
            "Five percent are cut off at each end, which leaves ninety in between.",
        ),
        Wrong(
            "nothing-drawn",
            _BOOTSTRAP.replace("gaps[draws].mean(axis=1)", "gaps"),
            "This is how much single questions differ; what was asked is how much "
            "their mean would, with other questions.",
        ),
        Wrong(
            "mean-of-the-draws",
            _BOOTSTRAP.replace("float(gaps.mean())", "float(means.mean())"),
            "The interval is right; the difference itself, though, is measured on the "
            "questions as they are, not on the draws.",
        ),
        Wrong(
            "wrong-axis",
            _BOOTSTRAP.replace("mean(axis=1)", "mean(axis=0)"),
            "The mean runs over the draws: each draw is a row, and needs a mean of its "
            "own.",
        ),
    ),
)

EXERCISES = [BM25, POOL, NCE, NDCG, MRR, FUSION, BOOTSTRAP]
