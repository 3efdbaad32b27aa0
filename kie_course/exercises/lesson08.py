"""Exercises of lesson 08: thresholds, pairs, markers, spans, answers, facts, texts."""

from __future__ import annotations

import math

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 08.1 a threshold for a promised recall -------------------------------------------


def _threshold_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([0.9], [0.4], 1.0),
        ([0.9], [], 0.5),
        ([0.9, 0.2], [0.4], 0.0),
        ([0.9, 0.8, 0.5, 0.3], [0.2, 0.4, 0.6], 0.5),
        ([0.9, 0.6, 0.6], [0.3, 0.6, 0.6, 0.7], 0.5),
        ([0.4, 0.7], [0.1, 0.2, 0.3, 0.8], 0.75),
        ([0.4, 0.7, 0.3], [0.1, 0.2, 0.3, 0.3, 0.8], 0.6),
    ]
    for size in (3, 5, 8, 12):
        outside = (rng.integers(1, 15, size) / 20).tolist()
        inside = (rng.integers(6, 20, size + 2) / 20).tolist()
        cases.append((inside, outside, int(rng.integers(1, 9)) / 8))
    return cases


def _threshold(
    inside: list[float], outside: list[float], share: float
) -> tuple[float, float]:
    """Try every score that occurs, from below, until enough is rejected."""
    for threshold in [-math.inf, *sorted(outside)]:
        rejected = [score for score in outside if score <= threshold]
        if not outside or len(rejected) / len(outside) >= share:
            kept = [score for score in inside if score > threshold]
            return threshold, len(kept) / len(inside)
    raise AssertionError("all are rejected at the highest score")


THRESHOLD = Exercise(
    id="08.1",
    title="A threshold for a promised recall",
    points=2,
    idea=(
        "The texts out of scope set the threshold; those in scope pay for it, and the "
        "price belongs beside the promise."
    ),
    function="threshold_for",
    cases=_threshold_cases,
    oracle=_threshold,
    hints=(
        "How many of the texts out of scope must be rejected at least? A part of a "
        "text cannot be.",
        "Sort their scores. Rejecting the lowest k of them means a threshold at the "
        "k-th lowest. Which k is the first that is enough, and what if it is 0?",
        "Rejected means: no higher than the threshold. Use the same rule for the "
        "texts in scope, turned round: kept means higher.",
    ),
    wrong=(
        Wrong(
            "rounded-down",
            """
def threshold_for(inside, outside, share):
    need = int(share * len(outside))
    t = sorted(outside)[need - 1] if need else float("-inf")
    return t, sum(s > t for s in inside) / len(inside)
""",
            "Your function rounds down: half of three texts is one and a half, and one "
            "rejected text is less than was promised.",
        ),
        Wrong(
            "equal-kept",
            """
import math
def threshold_for(inside, outside, share):
    need = math.ceil(share * len(outside))
    t = sorted(outside)[need - 1] if need else float("-inf")
    return t, sum(s >= t for s in inside) / len(inside)
""",
            "Your function rejects a text out of scope that scores exactly the "
            "threshold, but keeps one in scope: the same rule must hold for both.",
        ),
        Wrong(
            "from-inside",
            """
import math
def threshold_for(inside, outside, share):
    lost = math.floor((1 - share) * len(inside))
    t = sorted(inside)[lost - 1] if lost else float("-inf")
    return t, sum(s > t for s in inside) / len(inside)
""",
            "Your function chooses by the texts in scope; what was promised is a share "
            "of those out of scope.",
        ),
        Wrong(
            "interpolated",
            """
import numpy as np
def threshold_for(inside, outside, share):
    if not outside or not share:
        return float("-inf"), 1.0
    t = float(np.quantile(outside, share))
    return t, sum(s > t for s in inside) / len(inside)
""",
            "Your function takes a quantile that lies between two scores: count texts "
            "instead, and take the score of one of them.",
        ),
        Wrong(
            "highest-first",
            """
import math
def threshold_for(inside, outside, share):
    need = math.ceil(share * len(outside))
    t = sorted(outside, reverse=True)[need - 1] if need else float("-inf")
    return t, sum(s > t for s in inside) / len(inside)
""",
            "Your function counts from the highest score down; a threshold rejects "
            "from the lowest score up.",
        ),
    ),
)

# --- 08.2 AUROC of each intent --------------------------------------------------------

OUTSIDE = "out_of_scope"


def _auroc_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([0.9, 0.4], ["refund", OUTSIDE]),
        ([0.4, 0.4], ["refund", OUTSIDE]),
        ([0.4, 0.7], ["refund", "fees"]),
        ([0.4], [OUTSIDE]),
        ([0.9, 0.4, 0.6, 0.5], ["refund", "fees", OUTSIDE, OUTSIDE]),
        ([0.9, 0.5, 0.6, 0.5], ["refund", "refund", OUTSIDE, OUTSIDE]),
    ]
    for size in (5, 8, 12, 16):
        labels = rng.choice(["refund", "fees", "roaming", OUTSIDE, OUTSIDE], size)
        scores = rng.integers(1, 8, size) / 8
        cases.append((scores.tolist(), labels.tolist()))
    return cases


def _auroc(scores: list[float], labels: list[str]) -> dict[str, float]:
    """Walk through all pairs of one intent's text and one out of scope."""
    points: dict[str, list[float]] = {}
    for score, label in zip(scores, labels, strict=True):
        for other, name in zip(scores, labels, strict=True):
            if label != OUTSIDE and name == OUTSIDE:
                point = 1.0 if score > other else 0.5 if score == other else 0.0
                points.setdefault(label, []).append(point)
    return {label: sum(row) / len(row) for label, row in points.items()}


AUROC = Exercise(
    id="08.2",
    title="AUROC by pairs, one intent at a time",
    points=2,
    idea=(
        "AUROC is a share of pairs: a threshold is not in it, and a mean over all "
        "intents can hide one that is taken for nonsense."
    ),
    function="auroc_by_intent",
    cases=_auroc_cases,
    oracle=_auroc,
    hints=(
        "Take one intent. Which pairs are compared: who stands on the left, and who on "
        "the right?",
        "The left one always belongs to the intent, the right one is always out of "
        "scope. Other intents play no part.",
        "A pair with equal scores is worth a half. An intent occurs in the result as "
        "soon as it has a pair.",
    ),
    wrong=(
        Wrong(
            "ties-win",
            """
def auroc_by_intent(scores, labels):
    outside = [s for s, l in zip(scores, labels) if l == "out_of_scope"]
    found = {}
    for intent in sorted(set(labels) - {"out_of_scope"}) if outside else []:
        own = [s for s, l in zip(scores, labels) if l == intent]
        found[intent] = sum(a >= b for a in own for b in outside)
        found[intent] /= len(own) * len(outside)
    return found
""",
            "Your function counts a pair with equal scores as won: a model that gives "
            "every text the same score would be perfect.",
        ),
        Wrong(
            "ties-lose",
            """
def auroc_by_intent(scores, labels):
    outside = [s for s, l in zip(scores, labels) if l == "out_of_scope"]
    found = {}
    for intent in sorted(set(labels) - {"out_of_scope"}) if outside else []:
        own = [s for s, l in zip(scores, labels) if l == intent]
        found[intent] = sum(a > b for a in own for b in outside)
        found[intent] /= len(own) * len(outside)
    return found
""",
            "Your function counts a pair with equal scores as lost: a model that gives "
            "every text the same score guesses, and that is worth a half.",
        ),
        Wrong(
            "against-all-others",
            """
def auroc_by_intent(scores, labels):
    found = {}
    if "out_of_scope" not in labels:
        return found
    for intent in sorted(set(labels) - {"out_of_scope"}):
        own = [s for s, l in zip(scores, labels) if l == intent]
        rest = [s for s, l in zip(scores, labels) if l != intent]
        points = [(a > b) + (a == b) / 2 for a in own for b in rest]
        found[intent] = sum(points) / len(points)
    return found
""",
            "Your function compares an intent with everything else: the question here "
            "is whether its texts look surer than those out of scope.",
        ),
        Wrong(
            "outside-higher",
            """
def auroc_by_intent(scores, labels):
    outside = [s for s, l in zip(scores, labels) if l == "out_of_scope"]
    found = {}
    for intent in sorted(set(labels) - {"out_of_scope"}) if outside else []:
        own = [s for s, l in zip(scores, labels) if l == intent]
        points = [(a < b) + (a == b) / 2 for a in own for b in outside]
        found[intent] = sum(points) / len(points)
    return found
""",
            "Your function counts the pairs in which the text out of scope is the "
            "surer one: that is the share of failures.",
        ),
        Wrong(
            "compared-with-the-mean",
            """
def auroc_by_intent(scores, labels):
    outside = [s for s, l in zip(scores, labels) if l == "out_of_scope"]
    found = {}
    for intent in sorted(set(labels) - {"out_of_scope"}) if outside else []:
        own = [s for s, l in zip(scores, labels) if l == intent]
        middle = sum(outside) / len(outside)
        found[intent] = sum((a > middle) + (a == middle) / 2 for a in own) / len(own)
    return found
""",
            "Your function compares with the mean score out of scope, as if that were "
            "a threshold: every single text out of scope makes a pair.",
        ),
    ),
)

# --- 08.3 entity markers --------------------------------------------------------------


def _marker_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        (["Ada", "runs", "Foods"], (0, 1), (2, 3)),
        (["Foods", "hired", "Ada"], (2, 3), (0, 1)),
        (["Tarn", "Foods"], (0, 1), (1, 2)),
        (["Tarn", "Foods"], (1, 2), (0, 1)),
        (["University", "of", "Porto"], (0, 3), (2, 3)),
        (["University", "of", "Porto"], (2, 3), (0, 3)),
        (["Porto", "Trust", "grew"], (0, 2), (0, 1)),
    ]
    for size in (5, 7, 9, 12):
        words = [f"w{i}" for i in range(size)]
        a, b, c, d = sorted(rng.choice(size + 1, 4, replace=False).tolist())
        apart, inside = ((a, b), (c, d)), ((a, d), (b, c))
        for one, other in (apart, inside):
            swap = bool(rng.integers(0, 2))
            head, tail = (other, one) if swap else (one, other)
            cases.append((words, head, tail))
    return cases


def _mark(words: list[str], head: tuple, tail: tuple) -> list[str]:
    """Before every word, and after the last, say what closes and what opens."""
    outer = sorted([("1", head), ("2", tail)], key=lambda m: m[1][0] - m[1][1])
    marked: list[str] = []
    for place in range(len(words) + 1):
        for name, (_, end) in reversed(outer):
            marked += [f"[/E{name}]"] * (end == place)
        for name, (start, _) in outer:
            marked += [f"[E{name}]"] * (start == place)
        marked += words[place : place + 1]
    return marked


MARKERS = Exercise(
    id="08.3",
    title="Markers around two names",
    points=3,
    idea=(
        "The markers say who is asked about, and in which role: the role is the "
        "number, not the order of the text."
    ),
    function="mark",
    cases=_marker_cases,
    oracle=_mark,
    hints=(
        "Every marker that you insert moves all words behind it. Can you insert in an "
        "order in which that does no harm?",
        "Or build the result from left to right: before each word, first close what "
        "ends here, then open what begins here.",
        "Where two names open at one place, the longer opens first; where two close at "
        "one place, the shorter closes first.",
    ),
    wrong=(
        Wrong(
            "places-not-moved",
            """
def mark(words, head, tail):
    marked = list(words)
    for name, (start, end) in (("1", head), ("2", tail)):
        marked.insert(start, f"[E{name}]")
        marked.insert(end + 1, f"[/E{name}]")
    return marked
""",
            "Your function inserts the first pair of markers and then uses the old "
            "places for the second: every word behind an insertion has moved.",
        ),
        Wrong(
            "first-is-e1",
            """
def mark(words, head, tail):
    one, other = sorted([tuple(head), tuple(tail)], key=lambda m: (m[0], -m[1]))
    outer = sorted([("1", one), ("2", other)], key=lambda m: m[1][0] - m[1][1])
    marked = []
    for place in range(len(words) + 1):
        for name, (_, end) in reversed(outer):
            marked += [f"[/E{name}]"] * (end == place)
        for name, (start, _) in outer:
            marked += [f"[E{name}]"] * (start == place)
        marked += words[place : place + 1]
    return marked
""",
            "Your function gives E1 to whoever stands first: then nobody can tell who "
            "works for whom. E1 is the head, wherever it stands.",
        ),
        Wrong(
            "crossed",
            """
def mark(words, head, tail):
    outer = sorted([("1", head), ("2", tail)], key=lambda m: m[1][0] - m[1][1])
    marked = []
    for place in range(len(words) + 1):
        for name, (_, end) in outer:
            marked += [f"[/E{name}]"] * (end == place)
        for name, (start, _) in reversed(outer):
            marked += [f"[E{name}]"] * (start == place)
        marked += words[place : place + 1]
    return marked
""",
            "Your markers cross where one name lies at the edge of another: what opens "
            "last must close first, as brackets do.",
        ),
        Wrong(
            "opened-before-closed",
            """
def mark(words, head, tail):
    outer = sorted([("1", head), ("2", tail)], key=lambda m: m[1][0] - m[1][1])
    marked = []
    for place in range(len(words) + 1):
        for name, (start, _) in outer:
            marked += [f"[E{name}]"] * (start == place)
        for name, (_, end) in reversed(outer):
            marked += [f"[/E{name}]"] * (end == place)
        marked += words[place : place + 1]
    return marked
""",
            "Where one name ends and the next begins, your function opens the second "
            "inside the first: close before you open.",
        ),
        Wrong(
            "end-included",
            """
def mark(words, head, tail):
    outer = sorted([("1", head), ("2", tail)], key=lambda m: m[1][0] - m[1][1])
    marked = []
    for place in range(len(words) + 1):
        for name, (_, end) in reversed(outer):
            marked += [f"[/E{name}]"] * (end + 1 == place)
        for name, (start, _) in outer:
            marked += [f"[E{name}]"] * (start == place)
        marked += words[place : place + 1]
    return marked
""",
            "Your names are one word too long: the end of an extent is one past its "
            "last word, as in a slice.",
        ),
    ),
)

# --- 08.4 macro-F1 with directions ----------------------------------------------------


def _relation_cases(rng: np.random.Generator) -> list[tuple]:
    there, back, other = "Cause(e1,e2)", "Cause(e2,e1)", "Other"
    cases: list[tuple] = [
        ([], []),
        ([there], [there]),
        ([there], [back]),
        ([other], [other]),
        ([other], [there]),
        ([there, back], [there, there]),
        ([there, other], [there, "Part(e1,e2)"]),
        ([there, "Part(e1,e2)", other], [there, other, "Part(e1,e2)"]),
        ([there, "Part(e1,e2)", other, back], [there, "Part(e2,e1)", other, back]),
    ]
    names = [f"{n}({d})" for n in ("Cause", "Part", "Use") for d in ("e1,e2", "e2,e1")]
    for size in (6, 10, 16):
        gold = rng.choice([*names, other, other], size)
        noise = rng.choice([*names, other], size)
        said = np.where(rng.random(size) < 0.6, gold, noise)
        cases.append((gold.tolist(), said.tolist()))
    return cases


def _macro(gold: list[str], predicted: list[str]) -> float:
    """Count by name: right only with the direction; then average the relations."""
    names = {label.split("(")[0] for label in [*gold, *predicted]} - {"Other"}
    values = []
    for name in names:
        pairs = list(zip(gold, predicted, strict=True))
        right = sum(g == p and g.split("(")[0] == name for g, p in pairs)
        wanted = sum(g.split("(")[0] == name for g in gold)
        said = sum(p.split("(")[0] == name for p in predicted)
        values.append(2 * right / (wanted + said))
    return sum(values) / len(values) if values else 0.0


DIRECTED = Exercise(
    id="08.4",
    title="Macro-F1 that counts directions",
    points=3,
    idea=(
        "Two directions are one relation, but the wrong direction is wrong; no "
        "relation is no relation to average over."
    ),
    function="directed_macro_f1",
    cases=_relation_cases,
    oracle=_macro,
    hints=(
        "Which names does the mean run over? Look at gold and predicted, and leave one "
        "name out.",
        "For each name three counts: in gold, in predicted, and right. The first two "
        "ignore the direction. Does the third?",
        "F1 of a name is twice the right ones over gold plus predicted; every name "
        "weighs the same.",
    ),
    wrong=(
        Wrong(
            "directions-apart",
            """
def directed_macro_f1(gold, predicted):
    names = {*gold, *predicted} - {"Other"}
    f1 = []
    for n in names:
        right = sum(g == p == n for g, p in zip(gold, predicted))
        f1.append(2 * right / (gold.count(n) + predicted.count(n)))
    return sum(f1) / len(f1) if f1 else 0.0
""",
            "Your function averages over each direction by itself: the two directions "
            "are one relation here.",
        ),
        Wrong(
            "direction-ignored",
            """
def directed_macro_f1(gold, predicted):
    gold = [g.split("(")[0] for g in gold]
    predicted = [p.split("(")[0] for p in predicted]
    f1 = []
    for n in {*gold, *predicted} - {"Other"}:
        right = sum(g == p == n for g, p in zip(gold, predicted))
        f1.append(2 * right / (gold.count(n) + predicted.count(n)))
    return sum(f1) / len(f1) if f1 else 0.0
""",
            "Your function counts a relation in the wrong direction as right: the firm "
            "would have been bought by its own subsidiary.",
        ),
        Wrong(
            "other-averaged",
            """
def directed_macro_f1(gold, predicted):
    f1 = []
    base = lambda x: x.split("(")[0]
    for n in {base(x) for x in [*gold, *predicted]}:
        right = sum(g == p and base(g) == n for g, p in zip(gold, predicted))
        both = [base(x) for x in [*gold, *predicted]].count(n)
        f1.append(2 * right / both)
    return sum(f1) / len(f1) if f1 else 0.0
""",
            "Your mean runs over Other as well: it says that there is no relation, and "
            "it is the easiest class of all.",
        ),
        Wrong(
            "gold-names-alone",
            """
def directed_macro_f1(gold, predicted):
    f1 = []
    base = lambda x: x.split("(")[0]
    for n in {base(x) for x in gold} - {"Other"}:
        right = sum(g == p and base(g) == n for g, p in zip(gold, predicted))
        both = [base(x) for x in [*gold, *predicted]].count(n)
        f1.append(2 * right / both)
    return sum(f1) / len(f1) if f1 else 0.0
""",
            "Your mean leaves out a relation that was predicted and never occurs: "
            "inventing one should cost something.",
        ),
        Wrong(
            "micro",
            """
def directed_macro_f1(gold, predicted):
    right = sum(g == p != "Other" for g, p in zip(gold, predicted))
    both = sum(x != "Other" for x in [*gold, *predicted])
    return 2 * right / both if both else 0.0
""",
            "Your function counts all relations together, so that frequent ones "
            "decide: macro means one F1 for each, then their mean.",
        ),
    ),
)

# --- 08.5 the best span, or none ------------------------------------------------------


def _span_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([0.0], [0.0], 3, 0.0),
        ([0.0, 2.0], [0.0, 1.0], 1, 0.0),
        ([2.0, 1.0], [2.0, 1.0], 1, 0.0),
        ([1.0, 1.0], [1.0, 1.0], 1, 0.0),
        ([0.0, 1.0, 4.0], [0.0, 4.0, 1.0], 2, 0.0),
        ([0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 1.0, 3.0], 2, 0.0),
        ([1.0, 3.0, 0.0], [1.0, 0.0, 2.0], 2, 4.0),
        ([5.0, 3.0, 0.0], [0.0, 0.0, 3.0], 2, 0.0),
        ([3.0, 2.0, 0.0], [-3.0, 4.0, 0.0], 2, 0.0),
        ([0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], 3, 0.0),
    ]
    for size in (4, 5, 6, 8, 10, 12):
        starts, ends = rng.integers(-8, 9, (2, size)).astype(float).tolist()
        limit = int(rng.integers(1, max(2, size // 2)))
        cases.append((starts, ends, limit, float(rng.integers(-2, 6))))
    return cases


def _span(
    starts: list[float], ends: list[float], limit: int, margin: float
) -> list[int] | None:
    """List all allowed spans with their sums, best first, the earlier one in a tie."""
    spans = [
        (starts[a] + ends[b], a, b)
        for a in range(1, len(starts))
        for b in range(1, len(ends))
        if a <= b <= a + limit - 1
    ]
    ranked = sorted(spans, key=lambda span: (-span[0], span[1], span[2]))
    if not ranked or ranked[0][0] <= starts[0] + ends[0] + margin:
        return None
    return [ranked[0][1], ranked[0][2]]


SPAN = Exercise(
    id="08.5",
    title="The best span, or none",
    points=3,
    idea=(
        "Start and end are chosen together, under a rule; and having no answer is one "
        "of the choices."
    ),
    function="best_span",
    cases=_span_cases,
    oracle=_span,
    hints=(
        "Write the loop first: every start, and for each start every end that is "
        "allowed. Where does the loop over the ends stop?",
        "Place 0 is no piece of the text. Its two logits, added, are what the best "
        "span must beat, and by more than the margin.",
        "Keep the best span so far, and replace it only by a strictly better one: "
        "then the earlier one wins a tie. Compare with place 0 at the very end.",
    ),
    wrong=(
        Wrong(
            "chosen-apart",
            """
def best_span(starts, ends, limit, margin):
    if len(starts) < 2:
        return None
    a = max(range(1, len(starts)), key=lambda i: starts[i])
    b = max(range(1, len(ends)), key=lambda i: ends[i])
    if starts[a] + ends[b] <= starts[0] + ends[0] + margin:
        return None
    return [a, b]
""",
            "Your function chooses the best start and the best end each by itself: the "
            "end may stand before the start, or far behind it.",
        ),
        Wrong(
            "limit-off-by-one",
            """
def best_span(starts, ends, limit, margin):
    best, found = starts[0] + ends[0] + margin, None
    for a in range(1, len(starts)):
        for b in range(a, min(a + limit + 1, len(ends))):
            if starts[a] + ends[b] > best:
                best, found = starts[a] + ends[b], [a, b]
    return found
""",
            "Your spans may be one piece too long: from piece 3 to piece 5 are three "
            "pieces, not two.",
        ),
        Wrong(
            "null-forgotten",
            """
def best_span(starts, ends, limit, margin):
    best, found = float("-inf"), None
    for a in range(1, len(starts)):
        for b in range(a, min(a + limit, len(ends))):
            if starts[a] + ends[b] > best:
                best, found = starts[a] + ends[b], [a, b]
    return found
""",
            "Your function always answers: a text that does not hold the answer shows "
            "in the logits of place 0.",
        ),
        Wrong(
            "starts-at-cls",
            """
def best_span(starts, ends, limit, margin):
    best, found = float("-inf"), None
    for a in range(len(starts)):
        for b in range(a, min(a + limit, len(ends))):
            if starts[a] + ends[b] > best:
                best, found = starts[a] + ends[b], [a, b]
    if found is None or found[0] == 0 or best <= starts[0] + ends[0] + margin:
        return None
    return found
""",
            "Your function lets a span begin at place 0, and gives up when such a one "
            "is best: place 0 is no piece of the text, so no answer begins there.",
        ),
        Wrong(
            "margin-forgotten",
            """
def best_span(starts, ends, limit, margin):
    best, found = starts[0] + ends[0], None
    for a in range(1, len(starts)):
        for b in range(a, min(a + limit, len(ends))):
            if starts[a] + ends[b] > best:
                best, found = starts[a] + ends[b], [a, b]
    return found
""",
            "Your function compares with place 0 alone: the margin, chosen on dev, "
            "says by how much an answer must be better.",
        ),
        Wrong(
            "equal-is-enough",
            """
def best_span(starts, ends, limit, margin):
    best, found = float("-inf"), None
    for a in range(1, len(starts)):
        for b in range(a, min(a + limit, len(ends))):
            if starts[a] + ends[b] > best:
                best, found = starts[a] + ends[b], [a, b]
    if found is None or best < starts[0] + ends[0] + margin:
        return None
    return found
""",
            "Your function answers when span and threshold are equal: an answer must "
            "be better than none by more than the margin.",
        ),
    ),
)

# --- 08.6 F1 of answers ---------------------------------------------------------------


def _answer_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([["no"]], ["no"]),
        ([[]], [""]),
        ([[]], ["no"]),
        ([["no"]], [""]),
        ([["the red bus"]], ["Red Bus"]),
        ([["the bus"], []], ["a red bus", ""]),
        ([["theatre"]], ["the atre"]),
        ([["red bus", "bus"]], ["bus"]),
        ([["no no no"]], ["no yes"]),
        ([["no no yes"], ["old"]], ["no no", "new"]),
    ]
    pool = ["red", "old", "bus", "the", "a", "The", "Bus", "road", "an"]
    for size in (2, 3, 4, 5, 6):
        gold = [
            [
                " ".join(["way", *rng.choice(pool, int(rng.integers(1, 5)))])
                for _ in range(int(rng.integers(0, 3)))
            ]
            for _ in range(size)
        ]
        said = [
            " ".join(["way"] * int(n > 0) + rng.choice(pool, n).tolist())
            for n in rng.integers(0, 5, size).tolist()
        ]
        cases.append((gold, said))
    return cases


def _answer_f1(gold: list[list[str]], predicted: list[str]) -> tuple:
    """Cross words off one by one."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for answers, given in zip(gold, predicted, strict=True):
        values = []
        for answer in answers or [""]:
            mine, rest = (
                [w for w in t.lower().split() if w not in ("a", "an", "the")]
                for t in (given, answer)
            )
            total, shared = len(mine) + len(rest), 0
            for word in mine:
                if word in rest:
                    rest.remove(word)
                    shared += 1
            values.append(2 * shared / total if total else 1.0)
        found[bool(answers)].append(max(values))
    rows = [found[True] + found[False], found[True], found[False]]
    return tuple(sum(row) / len(row) if row else None for row in rows)


ANSWER = Exercise(
    id="08.6",
    title="F1 of answers, with and without one",
    points=3,
    idea=(
        "A part of the answer earns a part of the point; where there is none, silence "
        "earns all of it. Show the two kinds of question apart."
    ),
    function="answer_f1",
    cases=_answer_cases,
    oracle=_answer_f1,
    hints=(
        "First one question with one right answer: two lists of words, without "
        "articles. How many words do they share, if a word counts as often as it "
        "occurs on both sides?",
        "Several right answers: the nearest one counts. None: then the only right "
        "answer is the empty one, and two empty answers agree fully.",
        "Collect the values in two lists, by whether the question has an answer; the "
        "first mean is over both together.",
    ),
    wrong=(
        Wrong(
            "sets-of-words",
            """
def answer_f1(gold, predicted):
    bag = lambda t: {w for w in t.lower().split() if w not in ("a", "an", "the")}
    def f1(a, b):
        a, b = bag(a), bag(b)
        return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0
    best = lambda g, p: max(f1(t, p) for t in g or [""])
    rows = [(bool(g), best(g, p)) for g, p in zip(gold, predicted)]
    mean = lambda v: sum(v) / len(v) if v else None
    parts = [[v for k, v in rows if k == kind] for kind in (True, False)]
    return mean([v for _, v in rows]), mean(parts[0]), mean(parts[1])
""",
            "Your function forgets how often a word occurs: for <no no no>, the answer "
            "<no> is not all of it.",
        ),
        Wrong(
            "articles-kept",
            """
from collections import Counter
def answer_f1(gold, predicted):
    bag = lambda t: Counter(t.lower().split())
    def f1(a, b):
        a, b = bag(a), bag(b)
        n = sum(a.values()) + sum(b.values())
        return 2 * sum((a & b).values()) / n if n else 1.0
    best = lambda g, p: max(f1(t, p) for t in g or [""])
    rows = [(bool(g), best(g, p)) for g, p in zip(gold, predicted)]
    mean = lambda v: sum(v) / len(v) if v else None
    parts = [[v for k, v in rows if k == kind] for kind in (True, False)]
    return mean([v for _, v in rows]), mean(parts[0]), mean(parts[1])
""",
            "Articles count in your function: <the bus> and <a bus> are the same "
            "answer here.",
        ),
        Wrong(
            "articles-cut-out-of-words",
            """
from collections import Counter
def answer_f1(gold, predicted):
    def bag(t):
        t = t.lower()
        for article in ("the", "an"):
            t = t.replace(article, "")
        return Counter(w for w in t.split() if w != "a")
    def f1(a, b):
        a, b = bag(a), bag(b)
        n = sum(a.values()) + sum(b.values())
        return 2 * sum((a & b).values()) / n if n else 1.0
    best = lambda g, p: max(f1(t, p) for t in g or [""])
    rows = [(bool(g), best(g, p)) for g, p in zip(gold, predicted)]
    mean = lambda v: sum(v) / len(v) if v else None
    parts = [[v for k, v in rows if k == kind] for kind in (True, False)]
    return mean([v for _, v in rows]), mean(parts[0]), mean(parts[1])
""",
            "Your function cuts articles out of other words: in <theatre> there is "
            "none.",
        ),
        Wrong(
            "mean-of-right-answers",
            """
from collections import Counter
def answer_f1(gold, predicted):
    bag = lambda t: Counter(w for w in t.lower().split() if w not in ("a", "an", "the"))
    def f1(a, b):
        a, b = bag(a), bag(b)
        n = sum(a.values()) + sum(b.values())
        return 2 * sum((a & b).values()) / n if n else 1.0
    mean = lambda v: sum(v) / len(v) if v else None
    best = lambda g, p: mean([f1(t, p) for t in g or [""]])
    rows = [(bool(g), best(g, p)) for g, p in zip(gold, predicted)]
    parts = [[v for k, v in rows if k == kind] for kind in (True, False)]
    return mean([v for _, v in rows]), mean(parts[0]), mean(parts[1])
""",
            "Your function averages over the right answers: to give one of them is "
            "enough, and nobody can give all at once.",
        ),
        Wrong(
            "silence-is-worth-nothing",
            """
from collections import Counter
def answer_f1(gold, predicted):
    bag = lambda t: Counter(w for w in t.lower().split() if w not in ("a", "an", "the"))
    def f1(a, b):
        a, b = bag(a), bag(b)
        n = sum(a.values()) + sum(b.values())
        return 2 * sum((a & b).values()) / n if n else 0.0
    best = lambda g, p: max(f1(t, p) for t in g or [""])
    rows = [(bool(g), best(g, p)) for g, p in zip(gold, predicted)]
    mean = lambda v: sum(v) / len(v) if v else None
    parts = [[v for k, v in rows if k == kind] for kind in (True, False)]
    return mean([v for _, v in rows]), mean(parts[0]), mean(parts[1])
""",
            "Your function gives 0 for silence where nothing can be answered: that is "
            "the one right reaction, and worth 1.",
        ),
        Wrong(
            "mean-of-the-two-kinds",
            """
from collections import Counter
def answer_f1(gold, predicted):
    bag = lambda t: Counter(w for w in t.lower().split() if w not in ("a", "an", "the"))
    def f1(a, b):
        a, b = bag(a), bag(b)
        n = sum(a.values()) + sum(b.values())
        return 2 * sum((a & b).values()) / n if n else 1.0
    best = lambda g, p: max(f1(t, p) for t in g or [""])
    rows = [(bool(g), best(g, p)) for g, p in zip(gold, predicted)]
    mean = lambda v: sum(v) / len(v) if v else None
    parts = [mean([v for k, v in rows if k == kind]) for kind in (True, False)]
    return mean([p for p in parts if p is not None]), parts[0], parts[1]
""",
            "Your first figure is the mean of the two others: every question should "
            "weigh the same, however rare its kind is.",
        ),
    ),
)

# --- 08.7 sentences that do not repeat each other -------------------------------------


def _choice_cases(rng: np.random.Generator) -> list[tuple]:
    same = [[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]]
    twins = np.eye(4) + np.eye(4)[::-1] * [[1], [0], [0], [1]]
    chain = [[1.0, 0.5, 0.1], [0.5, 1.0, 0.6], [0.1, 0.6, 1.0]]
    cases: list[tuple] = [
        ([], [], 2, 0.5),
        ([[1.0]], [0.3], 2, 0.5),
        (same, [0.9, 0.8, 0.5], 1, 1.0),
        (same, [0.9, 0.8, 0.5], 2, 0.0),
        (same, [0.9, 0.8, 0.5], 2, 1.0),
        (same, [0.5, 0.6, 0.9], 2, 1.0),
        (chain, [0.2, 0.3, 0.9], 2, 0.5),
        (twins.tolist(), [0.9, 0.8, 0.3, 0.7], 3, 0.5),
    ]
    for size in (4, 5, 6, 7, 8):
        half = rng.random((size, size)).round(2)
        likeness = np.maximum(half, half.T)
        np.fill_diagonal(likeness, 1.0)
        worth = (0.5 + rng.random(size) / 2).round(3).tolist()
        trade = int(rng.integers(4, 13)) / 10
        cases.append((likeness.tolist(), worth, int(rng.integers(3, size)), trade))
    return cases


def _choose(
    similarity: list[list[float]], worth: list[float], count: int, trade: float
) -> list[int]:
    """Take the best sentence again and again, worth less whatever is said already."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(worth)):
        rest = [i for i in range(len(worth)) if i not in chosen]
        values = []
        for i in rest:
            said = 0.0
            for j in chosen:
                said = max(said, similarity[i][j])
            values.append(worth[i] - trade * said)
        chosen.append(rest[values.index(max(values))])
    return sorted(chosen)


CHOICE = Exercise(
    id="08.7",
    title="A summary that does not repeat itself",
    points=2,
    idea=(
        "What a sentence adds depends on what is in the summary already: choose one, "
        "then look again."
    ),
    function="choose_sentences",
    cases=_choice_cases,
    oracle=_choose,
    hints=(
        "The first sentence is the one of highest worth. What changes before the "
        "second is chosen?",
        "For every sentence left over: its worth, less the trade times its likeness to "
        "the chosen sentence that it resembles most.",
        "Recompute that for all that are left after each choice; the numbers are put "
        "in the order of the text at the end.",
    ),
    wrong=(
        Wrong(
            "repetition-forgotten",
            """
def choose_sentences(similarity, worth, count, trade):
    order = sorted(range(len(worth)), key=lambda i: -worth[i])
    return sorted(order[:count])
""",
            "Your function takes the worthiest sentences, whatever they repeat: the "
            "second should add something to the first.",
        ),
        Wrong(
            "likeness-to-all",
            """
def choose_sentences(similarity, worth, count, trade):
    n = len(worth)
    near = lambda i: max([similarity[i][j] for j in range(n) if j != i], default=0)
    value = [worth[i] - trade * near(i) for i in range(n)]
    return sorted(sorted(range(n), key=lambda i: -value[i])[:count])
""",
            "Your function punishes likeness to any sentence of the text: only what is "
            "in the summary already can be repeated.",
        ),
        Wrong(
            "mean-likeness",
            """
def choose_sentences(similarity, worth, count, trade):
    chosen = []
    while len(chosen) < min(count, len(worth)):
        rest = [i for i in range(len(worth)) if i not in chosen]
        said = lambda i: sum(similarity[i][j] for j in chosen) / max(1, len(chosen))
        chosen.append(max(rest, key=lambda i: worth[i] - trade * said(i)))
    return sorted(chosen)
""",
            "Your function averages the likeness: a sentence that repeats one chosen "
            "sentence word for word adds nothing, however far it is from the others.",
        ),
        Wrong(
            "order-of-choice",
            """
def choose_sentences(similarity, worth, count, trade):
    chosen = []
    while len(chosen) < min(count, len(worth)):
        rest = [i for i in range(len(worth)) if i not in chosen]
        said = lambda i: max([similarity[i][j] for j in chosen], default=0)
        chosen.append(max(rest, key=lambda i: worth[i] - trade * said(i)))
    return chosen
""",
            "Your sentences come in the order of choice: a reader wants them in the "
            "order of the text.",
        ),
        Wrong(
            "last-one-alone",
            """
def choose_sentences(similarity, worth, count, trade):
    chosen = []
    while len(chosen) < min(count, len(worth)):
        rest = [i for i in range(len(worth)) if i not in chosen]
        said = lambda i: similarity[i][chosen[-1]] if chosen else 0
        chosen.append(max(rest, key=lambda i: worth[i] - trade * said(i)))
    return sorted(chosen)
""",
            "Your function compares with the sentence chosen last: those chosen before "
            "it are in the summary, too.",
        ),
    ),
)

# --- 08.8 facts, and their ceiling ----------------------------------------------------


def _fact_cases(rng: np.random.Generator) -> list[tuple]:
    ada, foods, porto = "Ada", "Foods", "Porto"
    job, place = (ada, "works_for", foods), (foods, "located_in", porto)
    cases: list[tuple] = [
        ([[]], [[]], [[]]),
        ([[job]], [[job]], [[ada, foods]]),
        ([[job]], [[]], [[ada]]),
        ([[]], [[job]], [[ada, foods]]),
        ([[job, place]], [[job]], [[ada, foods]]),
        ([[job], [place]], [[place], [job]], [[foods, porto], [ada, foods]]),
        ([[job, job]], [[job, job, place]], [[ada, foods, porto]]),
        ([[job]], [[(foods, "works_for", ada)]], [[ada, foods]]),
        ([[job, job, place]], [[]], [[ada, foods]]),
        ([[job, place], []], [[job], [place]], [[ada, foods], [foods, porto]]),
    ]
    for size in (1, 2, 3, 4):
        drawn = [_drawn_facts(rng) for _ in range(size)]
        cases.append(tuple(list(column) for column in zip(*drawn, strict=True)))
    return cases


def _drawn_facts(rng: np.random.Generator) -> tuple[list, list, list]:
    """Gold facts, found facts and found names of one document."""
    names = [f"n{i}" for i in range(5)]
    known = sorted(rng.choice(names, int(rng.integers(2, 5)), replace=False).tolist())

    def facts(pool: list[str], count: int) -> list[tuple]:
        rows = []
        for _ in range(count):
            head, tail = rng.choice(pool, 2, replace=False).tolist()
            rows.append((head, str(rng.choice(["owns", "knows"])), tail))
        return rows

    gold = facts(names, int(rng.integers(2, 6)))
    within = [f for f in gold if {f[0], f[2]} <= set(known)]
    return gold, within[:2] + facts(known, int(rng.integers(1, 3))), known


def _facts(gold: list, found: list, names: list) -> tuple[float, float]:
    """Put everything into lists without repetition, document by document."""
    wanted, given, right, within = [], [], 0, 0
    for number, (facts, said, known) in enumerate(zip(gold, found, names, strict=True)):
        for fact in facts:
            key = (number, *fact)
            if key not in wanted:
                wanted.append(key)
                within += fact[0] in known and fact[2] in known
        for fact in said:
            key = (number, *fact)
            if key not in given:
                given.append(key)
                right += any(tuple(fact) == tuple(other) for other in facts)
    total = len(wanted) + len(given)
    return (
        2 * right / total if total else 0.0,
        within / len(wanted) if wanted else 0.0,
    )


FACTS = Exercise(
    id="08.8",
    title="Facts, and the ceiling above them",
    points=2,
    idea=(
        "A fact needs both of its names: what the tagger missed, no later stage can "
        "find."
    ),
    function="fact_scores",
    cases=_fact_cases,
    oracle=_facts,
    hints=(
        "A fact belongs to its document: the same three words in another document are "
        "another fact. How can a set remember that?",
        "F1 from three counts, over all documents together: gold facts, found facts, "
        "and those that are in both.",
        "The ceiling looks at gold facts and found names alone. When is a gold fact "
        "out of reach?",
    ),
    wrong=(
        Wrong(
            "documents-mixed",
            """
def fact_scores(gold, found, names):
    wanted = {tuple(f) for d in gold for f in d}
    given = {tuple(f) for d in found for f in d}
    keys = {(i, *f) for i, d in enumerate(gold) for f in d}
    within = sum(h in names[i] and t in names[i] for i, h, _, t in keys)
    total = len(wanted) + len(given)
    f1 = 2 * len(wanted & given) / total if total else 0.0
    return f1, within / len(keys) if keys else 0.0
""",
            "Your function throws all documents together: a fact found in one of them "
            "says nothing about another.",
        ),
        Wrong(
            "repeats-counted",
            """
def fact_scores(gold, found, names):
    wanted = [(i, *f) for i, d in enumerate(gold) for f in d]
    given = [(i, *f) for i, d in enumerate(found) for f in d]
    within = sum(h in names[i] and t in names[i] for i, h, _, t in wanted)
    total = len(wanted) + len(given)
    f1 = 2 * sum(f in wanted for f in given) / total if total else 0.0
    return f1, within / len(wanted) if wanted else 0.0
""",
            "Your function counts a fact as often as it is said: said twice in one "
            "document, it is still one fact.",
        ),
        Wrong(
            "direction-ignored",
            """
def fact_scores(gold, found, names):
    key = lambda i, f: (i, f[1], frozenset((f[0], f[2])))
    wanted = {key(i, f) for i, d in enumerate(gold) for f in d}
    given = {key(i, f) for i, d in enumerate(found) for f in d}
    keys = {(i, *f) for i, d in enumerate(gold) for f in d}
    within = sum(h in names[i] and t in names[i] for i, h, _, t in keys)
    total = len(wanted) + len(given)
    f1 = 2 * len(wanted & given) / total if total else 0.0
    return f1, within / len(keys) if keys else 0.0
""",
            "Your function takes head and tail as a pair without order: who works for "
            "whom is the fact.",
        ),
        Wrong(
            "one-name-is-enough",
            """
def fact_scores(gold, found, names):
    wanted = {(i, *f) for i, d in enumerate(gold) for f in d}
    given = {(i, *f) for i, d in enumerate(found) for f in d}
    within = sum(h in names[i] or t in names[i] for i, h, _, t in wanted)
    total = len(wanted) + len(given)
    f1 = 2 * len(wanted & given) / total if total else 0.0
    return f1, within / len(wanted) if wanted else 0.0
""",
            "Your ceiling counts a fact as soon as one of its names was found: a fact "
            "needs both.",
        ),
        Wrong(
            "mean-of-documents",
            """
def fact_scores(gold, found, names):
    f1 = []
    for g, s in zip(gold, found):
        g, s = {tuple(f) for f in g}, {tuple(f) for f in s}
        f1.append(2 * len(g & s) / (len(g) + len(s)) if g or s else 0.0)
    keys = {(i, *f) for i, d in enumerate(gold) for f in d}
    within = sum(h in names[i] and t in names[i] for i, h, _, t in keys)
    return sum(f1) / len(f1), within / len(keys) if keys else 0.0
""",
            "Your function averages the documents' scores: count over all of them "
            "first, else one fact in a short document weighs like ten in a long one.",
        ),
    ),
)

# --- 08.9 the probability of a whole text ---------------------------------------------


def _log_cases(rng: np.random.Generator) -> list[tuple]:
    even = np.zeros((2, 3, 4))
    cases: list[tuple] = [
        (np.array([[[0.0, 2.0]]]), np.array([[0]]), 0),
        (np.array([[[0.0, 2.0]]]), np.array([[1]]), 0),
        (even, np.array([[2, 0, 3], [1, 2, 3]]), 0),
        (even, np.array([[0, 0, 0], [2, 3, 0]]), 0),
        (even + np.array([0.0, 1.0, 2.0, 0.0]), np.array([[2, 3, 1], [3, 3, 3]]), 3),
        (
            np.zeros((1, 6, 2)) + np.array([0.0, 200.0]),
            np.array([[0, 0, 0, 0, 0, 1]]),
            1,
        ),
        (np.array([[[0.0, 800.0]]]), np.array([[0]]), 0),
    ]
    for texts, places, symbols in ((1, 4, 5), (3, 5, 4), (4, 6, 3)):
        logits = rng.normal(size=(texts, places, symbols)).round(2) * 3
        written = rng.integers(0, symbols, (texts, places))
        cases.append((logits, written, int(rng.integers(0, symbols))))
    return cases


def _log_probabilities(logits: np.ndarray, written: np.ndarray, end: int) -> list:
    """Walk along each text; a softmax at a place is relative to what was written."""
    found = []
    for scores, symbols in zip(logits.tolist(), written.tolist(), strict=True):
        total = 0.0
        for row, symbol in zip(scores, symbols, strict=True):
            gaps = sorted(score - row[symbol] for score in row)
            widest = gaps[-1]
            total -= widest + math.log(sum(math.exp(gap - widest) for gap in gaps))
            if symbol == end:
                break
        else:
            total = -math.inf
        found.append(total)
    return found


# How wrong answers begin: log-probabilities `p`, then text by text.
_BY_TEXT = """
import numpy as np
def log_probabilities(logits, written, end):
    top = logits.max(axis=2, keepdims=True)
    p = logits - top - np.log(np.exp(logits - top).sum(axis=2, keepdims=True))
    found = []
    for rows, symbols in zip(p, written.tolist()):"""

SURE = Exercise(
    id="08.9",
    title="How sure of the whole text?",
    points=2,
    idea=(
        "A text is a chain of choices, and to stop is the last of them: add up the "
        "logarithms as far as the first END."
    ),
    function="log_probabilities",
    cases=_log_cases,
    oracle=_log_probabilities,
    hints=(
        "Take one text. Which of its places belong to it? Look for the first END.",
        "The probability of a chain of choices is a product. What becomes of a product "
        "under a logarithm?",
        "ln softmax of a score is the score less the logarithm of the sum of all "
        "exponentials. Subtract the largest score first, and nothing can overflow.",
    ),
    wrong=(
        Wrong(
            "end-left-out",
            _BY_TEXT
            + """
        if end not in symbols:
            found.append(float("-inf"))
            continue
        n = symbols.index(end)
        found.append(float(sum(rows[i, symbols[i]] for i in range(n))))
    return found
""",
            "Your function leaves END out: a decoder that might go on is less sure "
            "than one that stops here.",
        ),
        Wrong(
            "mean-of-places",
            _BY_TEXT
            + """
        if end not in symbols:
            found.append(float("-inf"))
            continue
        n = symbols.index(end) + 1
        found.append(float(sum(rows[i, symbols[i]] for i in range(n)) / n))
    return found
""",
            "Your function gives the mean over the places: that is how sure a "
            "character is. All of them together are less probable: add up.",
        ),
        Wrong(
            "behind-the-end",
            _BY_TEXT
            + """
        if end not in symbols:
            found.append(float("-inf"))
            continue
        found.append(float(sum(rows[i, s] for i, s in enumerate(symbols))))
    return found
""",
            "Your function goes on behind END: what a decoder says there belongs to no "
            "text.",
        ),
        Wrong(
            "unfinished-counted",
            _BY_TEXT
            + """
        n = symbols.index(end) + 1 if end in symbols else len(symbols)
        found.append(float(sum(rows[i, symbols[i]] for i in range(n))))
    return found
""",
            "Your function takes a text without END for a whole one: it was cut off, "
            "and nobody knows how it would have gone on.",
        ),
        Wrong(
            "product-first",
            """
import numpy as np
def log_probabilities(logits, written, end):
    top = logits.max(axis=2, keepdims=True)
    p = np.exp(logits - top)
    p = p / p.sum(axis=2, keepdims=True)
    found = []
    for rows, symbols in zip(p, written.tolist()):
        if end not in symbols:
            found.append(float("-inf"))
            continue
        chance = 1.0
        for i in range(symbols.index(end) + 1):
            chance *= float(rows[i, symbols[i]])
        found.append(float(np.log(chance)) if chance else float("-inf"))
    return found
""",
            "Your function multiplies probabilities and takes the logarithm at the "
            "end: a long product becomes 0 before that. Add logarithms.",
        ),
    ),
)

EXERCISES = (THRESHOLD, AUROC, MARKERS, DIRECTED, SPAN, ANSWER, CHOICE, FACTS, SURE)
