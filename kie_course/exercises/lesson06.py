"""Exercises of lesson 06: labels, scores and schedules of a named-entity system."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 06.1 align -----------------------------------------------------------------------


def _align_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([], [], 0),
        ([None, None], [], 0),
        ([0, 0], [4], 0),
        ([None, 0, None], [3], 0),
        ([None, 0, 0, 1, None], [1, 2], 0),
        ([None, 0, 1, None], [1, 2], 1),
        ([None, 0, 2, None], [1, 2, 3], 0),  # word 1 has no piece
    ]
    for words in (2, 3, 4, 5, 6, 8):
        start = int(rng.integers(0, 3))  # a later window begins at a later word
        labels = rng.integers(0, 5, start + words).tolist()
        sizes = rng.choice([0, 1, 1, 2, 3], words).tolist()
        pieces = [start + i for i, size in enumerate(sizes) for _ in range(size)]
        pads = int(rng.integers(0, 3))
        fresh = start + int(rng.integers(0, 2))
        cases.append(([None, *pieces, None, *[None] * pads], labels, fresh))
    return cases


def _align(word_ids: list[int | None], labels: list[int], fresh: int) -> list[int]:
    """Fill with -100, then write each fresh word's label where it first occurs."""
    aligned = [-100] * len(word_ids)
    for word, label in enumerate(labels):
        if word >= fresh and word in word_ids:
            aligned[word_ids.index(word)] = label
    return aligned


ALIGN = Exercise(
    id="06.1",
    title="Labels on word pieces, each word once",
    points=2,
    idea=(
        "One label a word: on its first piece, in one window. All else is -100, "
        "which the loss ignores."
    ),
    function="align_pieces",
    cases=_align_cases,
    oracle=_align,
    hints=(
        "Go through the pieces. When does a piece open a new word?",
        "Compare each piece's word with the word of the piece before it. And when has "
        "its word had a label already, in the window before?",
        "Four kinds of piece: no word, the same word as before, a new word below "
        "`fresh`, any other new word. Only the last kind has a label, and its word "
        "says which.",
    ),
    wrong=(
        Wrong(
            "zipped-to-pieces",
            """
def align_pieces(word_ids, labels, fresh):
    padded = list(labels) + [-100] * len(word_ids)
    return padded[: len(word_ids)]
""",
            "Labels are laid down one a piece, special tokens included: after the "
            "first longer word each stands too far left.",
        ),
        Wrong(
            "continuations-labelled",
            """
def align_pieces(word_ids, labels, fresh):
    return [
        -100 if word is None or word < fresh else labels[word] for word in word_ids
    ]
""",
            "A word of three pieces counts three times here, and a B- on each of them "
            "would open three mentions.",
        ),
        Wrong(
            "overlap-taught-twice",
            """
def align_pieces(word_ids, labels, fresh):
    aligned, previous = [], None
    for word in word_ids:
        first = word is not None and word != previous
        aligned.append(labels[word] if first else -100)
        previous = word
    return aligned
""",
            "Words before `fresh` were labelled in the window before: with a label "
            "here as well, the loss counts them twice.",
        ),
        Wrong(
            "specials-as-o",
            """
def align_pieces(word_ids, labels, fresh):
    aligned, previous = [], None
    for word in word_ids:
        if word is None:
            aligned.append(0)
        else:
            first = word != previous and word >= fresh
            aligned.append(labels[word] if first else -100)
        previous = word
    return aligned
""",
            "Special tokens and padding get label 0, which is O: the loss would then "
            "reward the model for calling padding O.",
        ),
        Wrong(
            "last-piece-labelled",
            """
def align_pieces(word_ids, labels, fresh):
    following = [*word_ids[1:], None]
    return [
        labels[word]
        if word is not None and word >= fresh and word != after
        else -100
        for word, after in zip(word_ids, following)
    ]
""",
            "The label stands on each word's last piece; the convention here is the "
            "first, where prediction will read it.",
        ),
        Wrong(
            "word-zero-is-falsy",
            """
def align_pieces(word_ids, labels, fresh):
    aligned, previous = [], None
    for word in word_ids:
        first = word and word != previous and word >= fresh
        aligned.append(labels[word] if first else -100)
        previous = word
    return aligned
""",
            "Word number 0 is a word like any other, but Python takes 0 for false.",
        ),
        Wrong(
            "first-compared-with-last",
            """
def align_pieces(word_ids, labels, fresh):
    return [
        labels[word]
        if word is not None and word >= fresh and word_ids[i - 1] != word
        else -100
        for i, word in enumerate(word_ids)
    ]
""",
            "For the first piece, i - 1 is -1, which in Python means the last piece: "
            "without special tokens round the text this goes wrong.",
        ),
        Wrong(
            "labels-counted-from-fresh",
            """
def align_pieces(word_ids, labels, fresh):
    aligned, previous = [], None
    for word in word_ids:
        first = word is not None and word != previous and word >= fresh
        aligned.append(labels[word - fresh] if first else -100)
        previous = word
    return aligned
""",
            "Your function counts labels from `fresh` on, but they are numbered over "
            "the whole text: word 3 has `labels[3]` in every window.",
        ),
        Wrong(
            "labels-counted-off",
            """
def align_pieces(word_ids, labels, fresh):
    aligned, previous, remaining = [], None, iter(labels)
    for word in word_ids:
        first = word is not None and word != previous
        label = next(remaining) if first else -100
        aligned.append(label if first and word >= fresh else -100)
        previous = word
    return aligned
""",
            "You take the labels one after the other; when a word has no piece, or a "
            "window begins later, only the word's number says which label is its own.",
        ),
    ),
)

# --- 06.2 IOB1 to IOB2 ----------------------------------------------------------------


def _iob2_cases(rng: np.random.Generator) -> list[tuple]:
    fixed = (
        "",
        "O",
        "I-PER",
        "I-PER I-ORG",
        "I-PER B-PER I-PER",
        "I-ORG I-ORG O I-PER",
        "O I-PER I-PER B-PER I-PER B-PER O",
    )
    drawn = [_iob1(rng, mentions) for mentions in (2, 3, 4, 6, 9)]
    return [(tags.split(),) for tags in fixed] + [(tags,) for tags in drawn]


def _iob1(rng: np.random.Generator, mentions: int) -> list[str]:
    """Mentions of random length in IOB1, mostly without a word between them."""
    tags: list[str] = []
    for _ in range(mentions):
        kind = str(rng.choice(["PER", "ORG"]))
        tags += ["O"] * int(rng.integers(0, 3) == 0)
        touches = bool(tags) and tags[-1][2:] == kind
        tags.append(("B-" if touches else "I-") + kind)
        tags += ["I-" + kind] * int(rng.integers(0, 3))
    return tags


def _to_iob2(tags: list[str]) -> list[str]:
    """First cut the sentence into mentions, then label each mention afresh."""
    mentions: list[list[str]] = []
    for position, tag in enumerate(tags):
        kind = tag[2:]
        goes_on = (
            position > 0 and tag[:2] == "I-" and mentions[-1][-1].split("-")[-1] == kind
        )
        if goes_on:
            mentions[-1].append(tag)
        else:
            mentions.append([tag])
    fresh: list[str] = []
    for mention in mentions:
        kind = mention[0][2:]
        inside = ["I-" + kind] * (len(mention) - 1)
        fresh += ["B-" + kind, *inside] if kind else mention
    return fresh


IOB2 = Exercise(
    id="06.2",
    title="From IOB1 to IOB2",
    points=2,
    idea=(
        "In IOB2 every mention begins with B-; what came before tells where one begins."
    ),
    function="to_iob2",
    cases=_iob2_cases,
    oracle=_to_iob2,
    hints=(
        "Only some I- tags change. Which ones are the first word of a mention?",
        "An I- goes on with a mention if the word before belongs to one of that type.",
        "Compare types, not whole tags: both B-PER and I-PER can stand before I-PER. "
        "The first word has nothing before it.",
    ),
    wrong=(
        Wrong(
            "type-change-missed",
            """
def to_iob2(tags):
    fresh, previous = [], "O"
    for tag in tags:
        opens = tag[0] == "I" and previous == "O"
        fresh.append("B" + tag[1:] if opens else tag)
        previous = tag
    return fresh
""",
            "A mention also begins where the type changes, without any O between.",
        ),
        Wrong(
            "every-word-begins",
            """
def to_iob2(tags):
    return ["B" + tag[1:] if tag[0] == "I" else tag for tag in tags]
""",
            "Every word of a mention now begins a mention of its own: names of two "
            "words fall apart.",
        ),
        Wrong(
            "whole-tag-compared",
            """
def to_iob2(tags):
    fresh, previous = [], "O"
    for tag in tags:
        opens = tag[0] == "I" and tag != previous
        fresh.append("B" + tag[1:] if opens else tag)
        previous = tag
    return fresh
""",
            "An I- right after a B- of its type goes on with that mention: the tags "
            "differ, the type does not.",
        ),
        Wrong(
            "first-word-forgotten",
            """
def to_iob2(tags):
    fresh = []
    for i, tag in enumerate(tags):
        opens = i > 0 and tag[0] == "I" and tags[i - 1][2:] != tag[2:]
        fresh.append("B" + tag[1:] if opens else tag)
    return fresh
""",
            "Nothing stands before the first word of a sentence, so if it is in a "
            "mention it begins one.",
        ),
        Wrong(
            "first-compared-with-last",
            """
def to_iob2(tags):
    fresh = []
    for i, tag in enumerate(tags):
        opens = tag[0] == "I" and tags[i - 1][2:] != tag[2:]
        fresh.append("B" + tag[1:] if opens else tag)
    return fresh
""",
            "For the first word, i - 1 is -1, which in Python means the last word of "
            "the sentence.",
        ),
        Wrong(
            "neighbours-merged",
            """
def to_iob2(tags):
    fresh, kind = [], ""
    for tag in tags:
        prefix = "O" if tag == "O" else "I" if tag[2:] == kind else "B"
        fresh.append(prefix + tag[1:])
        kind = tag[2:]
    return fresh
""",
            "Two mentions of one type can stand side by side: the B- that parts them "
            "must stay.",
        ),
    ),
)

# --- 06.3 span F1 ---------------------------------------------------------------------


def _f1_cases(rng: np.random.Generator) -> list[tuple]:
    fixed = (
        ([], []),
        (["O O"], ["O O"]),
        (["B-PER"], ["B-PER"]),
        (["B-PER B-PER"], ["B-PER I-PER"]),
        (["B-PER O"], ["I-PER O"]),
        (["B-PER I-ORG"], ["B-PER O"]),
        (["B-PER I-PER O"], ["B-PER O O"]),
        (["B-PER", "O B-ORG", "O"], ["B-ORG", "O B-ORG", "B-ORG"]),
        (["O B-PER", "B-PER O"], ["B-PER B-PER", "B-PER O"]),
    )
    cases = [tuple([row.split() for row in rows] for rows in pair) for pair in fixed]
    sizes = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 6), (5, 7), (8, 7)]
    return cases + [_f1_pair(rng, *size) for size in sizes]


TAGS = ("O", "O", "B-PER", "I-PER", "B-ORG", "I-ORG")


def _f1_pair(
    rng: np.random.Generator, sentences: int, longest: int
) -> tuple[list, list]:
    """Random tags, some of them out of order, and a prediction that is half right."""
    lengths = rng.integers(1, longest + 1, sentences)
    gold = [rng.choice(TAGS, length).tolist() for length in lengths]
    predicted = [
        [str(rng.choice(TAGS)) if rng.random() < 0.3 else tag for tag in row]
        for row in gold
    ]
    return gold, predicted


def _span_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """Ask of every slice of every sentence whether it is a mention, and in which."""
    found = wanted = right = 0
    for gold_row, predicted_row in zip(gold, predicted, strict=True):
        for start, end in _slices(len(gold_row)):
            is_gold = _is_mention(gold_row, start, end)
            is_predicted = _is_mention(predicted_row, start, end)
            wanted, found = wanted + is_gold, found + is_predicted
            same_type = gold_row[start] == predicted_row[start]
            right += is_gold and is_predicted and same_type
    precision = right / found if found else 0.0
    recall = right / wanted if wanted else 0.0
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0


def _slices(length: int) -> Iterator[tuple[int, int]]:
    for start in range(length):
        for end in range(start + 1, length + 1):
            yield start, end


def _is_mention(tags: list[str], start: int, end: int) -> bool:
    """Whether exactly the words `start:end` are one mention in IOB2."""
    inside = "I-" + tags[start][2:]
    follows = tags[end] if end < len(tags) else "O"
    whole = tags[start + 1 : end] == [inside] * (end - start - 1)
    return tags[start][0] == "B" and whole and follows != inside


# What most wrong answers share: the strict mentions of one sentence.
_MENTIONS = """
def mentions(tags):
    found = []
    for i, tag in enumerate(tags):
        if tag[0] == "B":
            found.append((i, i + 1, tag[2:]))
        elif tag[0] == "I" and found and found[-1][1:] == (i, tag[2:]):
            found[-1] = (found[-1][0], i + 1, tag[2:])
    return found

def f1(right, wanted, found):
    return 2 * right / (wanted + found) if wanted + found else 0.0
"""

# And the usual end: count over all sentences.
_COUNTED = """
def strict_f1(gold, predicted):
    wanted = {(n, *m) for n, tags in enumerate(gold) for m in mentions(tags)}
    found = {(n, *m) for n, tags in enumerate(predicted) for m in mentions(tags)}
    return f1(len(wanted & found), len(wanted), len(found))
"""

SPAN_F1 = Exercise(
    id="06.3",
    title="Span F1 by hand",
    points=3,
    idea="A mention is right as a whole (first word, last word, type) or not at all.",
    function="strict_f1",
    cases=_f1_cases,
    oracle=_span_f1,
    hints=(
        "Turn each side into a set of mentions first; the score then needs three "
        "counts.",
        "A mention is known by four things: which sentence, where it begins, where it "
        "ends, its type.",
        "A mention begins at B- and takes in each I- of its own type that follows "
        "without a gap. F1 is twice what both sides share, over the sum of their "
        "sizes.",
    ),
    wrong=(
        Wrong(
            "words-scored",
            """
def strict_f1(gold, predicted):
    wanted = {(n, i, t) for n, row in enumerate(gold)
              for i, t in enumerate(row) if t != "O"}
    found = {(n, i, t) for n, row in enumerate(predicted)
             for i, t in enumerate(row) if t != "O"}
    total = len(wanted) + len(found)
    return 2 * len(wanted & found) / total if total else 0.0
""",
            "This scores word by word, so half a name earns half a point; a mention "
            "counts only as a whole.",
        ),
        Wrong(
            "accuracy",
            """
def strict_f1(gold, predicted):
    pairs = [p for g, q in zip(gold, predicted) for p in zip(g, q)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 0.0
""",
            "This is the share of words with the right label, and most of those are O: "
            "a model that finds no name at all would score well.",
        ),
        Wrong(
            "adjacent-merged",
            """
from itertools import groupby

def strict_f1(gold, predicted):
    def mentions(rows):
        found = set()
        for n, tags in enumerate(rows):
            i = 0
            for kind, run in groupby(tags, key=lambda tag: tag[2:]):
                size = len(list(run))
                if kind:
                    found.add((n, i, i + size, kind))
                i += size
        return found
    wanted, found = mentions(gold), mentions(predicted)
    total = len(wanted) + len(found)
    return 2 * len(wanted & found) / total if total else 0.0
""",
            "Neighbours of one type are taken for one mention, as if B- and I- meant "
            "the same: a B- always begins another.",
        ),
        Wrong(
            "lenient-start",
            _MENTIONS.replace(
                'if tag[0] == "B":', 'if tag[0] == "B" or opens(tags, i):'
            )
            + """
def opens(tags, i):
    return tags[i][0] == "I" and (i == 0 or tags[i - 1][2:] != tags[i][2:])
"""
            + _COUNTED,
            "An I- that continues nothing is taken for a mention; strict scoring gives "
            "it no credit.",
        ),
        Wrong(
            "type-change-continued",
            _MENTIONS.replace(
                "found[-1][1:] == (i, tag[2:])", "found[-1][1] == i"
            ).replace("i + 1, tag[2:])\n    return", "i + 1, found[-1][2])\n    return")
            + _COUNTED,
            "An I- of another type is taken into the mention: it continues only what "
            "is of its own type.",
        ),
        Wrong(
            "type-ignored",
            _MENTIONS
            + """
def strict_f1(gold, predicted):
    wanted = {(n, *m[:2]) for n, tags in enumerate(gold) for m in mentions(tags)}
    found = {(n, *m[:2]) for n, tags in enumerate(predicted) for m in mentions(tags)}
    return f1(len(wanted & found), len(wanted), len(found))
""",
            "The right words under the wrong type count as found: a person that is "
            "called an organisation is not right.",
        ),
        Wrong(
            "overlap-counts",
            _MENTIONS
            + """
def strict_f1(gold, predicted):
    right = wanted = found = 0
    for a, b in zip(gold, predicted):
        ms, ps = mentions(a), mentions(b)
        wanted, found = wanted + len(ms), found + len(ps)
        right += sum(
            any(m[0] < p[1] and p[0] < m[1] and m[2] == p[2] for m in ms) for p in ps
        )
    return f1(right, wanted, found)
""",
            "A prediction that touches a mention counts as right; both ends have to "
            "agree.",
        ),
        Wrong(
            "mean-over-sentences",
            _MENTIONS
            + """
def strict_f1(gold, predicted):
    scores = []
    for a, b in zip(gold, predicted):
        wanted, found = set(mentions(a)), set(mentions(b))
        scores.append(f1(len(wanted & found), len(wanted), len(found)))
    return sum(scores) / len(scores) if scores else 0.0
""",
            "A mean of F1 over sentences gives a sentence without names the weight of "
            "one with ten: count over all sentences first.",
        ),
        Wrong(
            "sentence-forgotten",
            _MENTIONS
            + """
def strict_f1(gold, predicted):
    wanted = {m for tags in gold for m in mentions(tags)}
    found = {m for tags in predicted for m in mentions(tags)}
    return f1(len(wanted & found), len(wanted), len(found))
""",
            "Words 0 to 2 of one sentence are not words 0 to 2 of another: your set "
            "cannot tell them apart.",
        ),
    ),
)

# --- 06.4 what accuracy hides ---------------------------------------------------------


def _report_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([], []),
        ([-100], [0]),
        ([0, 0], [0, 0]),
        ([0, 0, 0, 1], [0, 0, 0, 0]),
        ([-100, 0, 1, 2, -100], [0, 1, 1, 1, 0]),
    ]
    for words in (4, 6, 8, 12, 20, 30):
        gold = rng.choice([-100, 0, 0, 0, 1, 2], words)
        wrong = rng.random(words) < 0.4
        guess = np.where(wrong, rng.integers(0, 3, words), np.maximum(gold, 0))
        cases.append((gold.tolist(), guess.tolist()))
    return cases


def _report(gold: list[int], predicted: list[int]) -> tuple[dict, float, float]:
    """Count one class at a time."""
    counts, hits = {}, {}
    for label in sorted(set(gold) - {-100}):
        places = [i for i in range(len(gold)) if gold[i] == label]
        counts[label] = len(places)
        hits[label] = len([i for i in places if predicted[i] == label])
    words, names = sum(counts.values()), sum(n for c, n in counts.items() if c > 0)
    right = sum(n for c, n in hits.items() if c > 0)
    return counts, sum(hits.values()) / max(words, 1), right / max(names, 1)


REPORT = Exercise(
    id="06.4",
    title="What accuracy hides",
    points=2,
    idea=(
        "Where one class is nearly everything, accuracy is that class: look at the "
        "rest."
    ),
    function="label_report",
    cases=_report_cases,
    oracle=_report,
    hints=(
        "First throw away the positions that carry no label, on both sides at once.",
        "Accuracy looks at every position that is left; the recall of names only at "
        "those where gold is not O.",
        "Both shares need an answer when there is nothing to divide by.",
    ),
    wrong=(
        Wrong(
            "ignored-counted",
            """
from collections import Counter

def label_report(gold, predicted):
    counts = dict(Counter(g for g in gold if g != -100))
    right = sum(g == p for g, p in zip(gold, predicted))
    names = [(g, p) for g, p in zip(gold, predicted) if g > 0]
    recall = sum(g == p for g, p in names) / len(names) if names else 0.0
    return counts, right / len(gold) if gold else 0.0, recall
""",
            "Positions with -100 stand in the accuracy's denominator: padding has no "
            "right answer and must not be counted.",
        ),
        Wrong(
            "padding-as-o",
            """
from collections import Counter

def label_report(gold, predicted):
    gold = [max(g, 0) for g in gold]
    names = [(g, p) for g, p in zip(gold, predicted) if g > 0]
    right = sum(g == p for g, p in zip(gold, predicted))
    recall = sum(g == p for g, p in names) / len(names) if names else 0.0
    return dict(Counter(gold)), right / len(gold) if gold else 0.0, recall
""",
            "Padding is counted as O: the more of it, the better the accuracy, "
            "whatever the model does.",
        ),
        Wrong(
            "ignored-is-a-class",
            """
from collections import Counter

def label_report(gold, predicted):
    pairs = [(g, p) for g, p in zip(gold, predicted) if g != -100]
    names = [(g, p) for g, p in pairs if g != 0]
    share = lambda ps: sum(g == p for g, p in ps) / len(ps) if ps else 0.0
    return dict(Counter(gold)), share(pairs), share(names)
""",
            "The shares are right, but -100 is listed as a class: it says that there "
            "is no label.",
        ),
        Wrong(
            "precision-for-recall",
            """
from collections import Counter

def label_report(gold, predicted):
    pairs = [(g, p) for g, p in zip(gold, predicted) if g != -100]
    names = [(g, p) for g, p in pairs if p != 0]
    share = lambda ps: sum(g == p for g, p in ps) / len(ps) if ps else 0.0
    return dict(Counter(g for g, _ in pairs)), share(pairs), share(names)
""",
            "Your third figure asks how many of the predicted names are right, which "
            "is precision; recall asks how many of the gold ones were found.",
        ),
        Wrong(
            "any-name-is-right",
            """
from collections import Counter

def label_report(gold, predicted):
    pairs = [(g, p) for g, p in zip(gold, predicted) if g != -100]
    names = [p for g, p in pairs if g != 0]
    accuracy = sum(g == p for g, p in pairs) / len(pairs) if pairs else 0.0
    recall = sum(p != 0 for p in names) / len(names) if names else 0.0
    return dict(Counter(g for g, _ in pairs)), accuracy, recall
""",
            "Any label but O counts as found here; the label has to be the right one.",
        ),
        Wrong(
            "recall-over-all-words",
            """
from collections import Counter

def label_report(gold, predicted):
    pairs = [(g, p) for g, p in zip(gold, predicted) if g != -100]
    accuracy = sum(g == p for g, p in pairs) / len(pairs) if pairs else 0.0
    return dict(Counter(g for g, _ in pairs)), accuracy, accuracy
""",
            "Both shares are over all words, so the many O hide the names again: the "
            "last one is over the names alone.",
        ),
    ),
)

# --- 06.5 warm-up ---------------------------------------------------------------------


def _warm_up_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(0, 1, 0), (0, 4, 2), (2, 4, 2), (3, 4, 2), (4, 4, 2), (6, 4, 2)]
    cases += [(2, 4, 0), (3, 4, 4), (4, 4, 4)]
    for total in (5, 8, 10, 20, 50, 100):
        warm = int(rng.integers(2, total - 1))
        cases.append((int(rng.integers(1, warm)), total, warm))
        cases.append((int(rng.integers(warm + 1, total)), total, warm))
    return cases


def _warm_up(step: int, total: int, warm: int) -> float:
    """Read the height of a line drawn through the corners of the schedule."""
    if step >= total:
        return 0.0
    if warm == 0:
        return float(np.interp(step, [0, total], [1, 0]))
    return float(np.interp(step, [0, warm, max(total, warm + 1)], [0, 1, 0]))


WARM_UP = Exercise(
    id="06.5",
    title="Warm up, then cool down",
    points=1,
    idea="The rate rises in a line to its peak, and from there in a line to zero.",
    function="rate_share",
    cases=_warm_up_cases,
    oracle=_warm_up,
    hints=(
        "Draw it: a tent with corners at step 0, step warm and step total.",
        "On the way up, ask what share of the warm steps is done; on the way down, "
        "what share of the other steps is left.",
        "Look at the ends last: no warm-up at all, nothing but warm-up, steps after "
        "the end.",
    ),
    wrong=(
        Wrong(
            "no-cooling",
            """
def rate_share(step, total, warm):
    return min(1.0, step / warm) if warm else 1.0
""",
            "The rate stays at its peak after the warm-up; it has to come down to 0 by "
            "the last step.",
        ),
        Wrong(
            "no-warm-up",
            """
def rate_share(step, total, warm):
    return max(0.0, (total - step) / total)
""",
            "The rate begins at its peak: with a new layer on top, the first steps "
            "would be the wildest.",
        ),
        Wrong(
            "jump-at-the-peak",
            """
def rate_share(step, total, warm):
    if step < warm:
        return step / warm
    return max(0.0, (total - step) / total)
""",
            "There is a jump at the end of the warm-up: going down, the peak of 1 "
            "should be where the warm-up ended.",
        ),
        Wrong(
            "never-at-zero",
            """
def rate_share(step, total, warm):
    if step < warm:
        return (step + 1) / (warm + 1)
    return max(0.0, (total - step) / max(1, total - warm))
""",
            "This is the form of the course's own loop, which starts a little above 0; "
            "here step 0 has the rate 0.",
        ),
        Wrong(
            "cooling-counted-from-zero",
            """
def rate_share(step, total, warm):
    if step < warm:
        return step / warm
    return max(0.0, 1 - step / max(1, total - warm))
""",
            "The way down begins when the warm-up ends: the steps of the warm-up are "
            "not part of it.",
        ),
        Wrong(
            "below-zero",
            """
def rate_share(step, total, warm):
    if step < warm:
        return step / warm
    return (total - step) / max(1, total - warm)
""",
            "After the last step the rate becomes negative, and training would climb "
            "instead of descend.",
        ),
        Wrong(
            "division-by-zero",
            """
def rate_share(step, total, warm):
    if step >= total:
        return 0.0
    if total == warm:
        return step / warm
    return min(step / warm, (total - step) / (total - warm))
""",
            "With no warm-up steps there is nothing to divide by: then the schedule "
            "begins at its peak.",
        ),
    ),
)

# --- 06.6 early stopping --------------------------------------------------------------


def _stop_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([0.5], 1),
        ([0.5, 0.5], 2),
        ([0.5, 0.4, 0.9], 1),
        ([0.6, 0.5, 0.4, 0.3, 0.2], 1),
        ([0.5, 0.7, 0.6], 3),
        ([0.5, 0.5, 0.5, 0.6], 2),
        ([0.2, 0.6, 0.4, 0.5, 0.3], 2),
        ([0.3, 0.2, 0.5, 0.4, 0.6, 0.5, 0.4], 2),
    ]
    for epochs in (4, 5, 6, 8, 10, 12):
        # Few different scores: ties are certain.
        scores = rng.integers(10, 18, epochs) / 20
        cases.append((scores.tolist(), int(rng.integers(1, 4))))
    return cases


def _early_stop(scores: list[float], patience: int) -> tuple[int, int]:
    """Try every epoch as the last: were the `patience` scores before it no better?"""
    for last in range(patience, len(scores)):
        before, recent = scores[: last - patience + 1], scores[last - patience + 1 :]
        if max(recent[:patience]) <= max(before):
            return before.index(max(before)), last
    return scores.index(max(scores)), len(scores) - 1


EARLY_STOP = Exercise(
    id="06.6",
    title="When to stop, and what to keep",
    points=2,
    idea="Keep the weights of the best epoch so far; the future does not count.",
    function="early_stop",
    cases=_stop_cases,
    oracle=_early_stop,
    hints=(
        "Read the scores one by one, as training would. What must you remember?",
        "Remember the best score and its epoch. How many epochs ago was that?",
        "Stop as soon as that distance reaches the patience; a score that only equals "
        "the best is no new best.",
    ),
    wrong=(
        Wrong(
            "last-weights-kept",
            """
def early_stop(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return epoch, epoch
""",
            "Training stops at the right place, but keeps the weights of the last "
            "epoch: stopping is only half of it.",
        ),
        Wrong(
            "future-known",
            """
def early_stop(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return scores.index(max(scores)), epoch
""",
            "The best of all scores can lie after the stop: that epoch was never "
            "trained.",
        ),
        Wrong(
            "never-stops",
            """
def early_stop(scores, patience):
    return scores.index(max(scores)), len(scores) - 1
""",
            "Training runs to the end here: patience has no effect.",
        ),
        Wrong(
            "tie-counts-as-better",
            """
def early_stop(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        if score >= scores[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best, epoch
""",
            "A score equal to the best renews the patience: no improvement should not "
            "count as one.",
        ),
        Wrong(
            "compared-with-the-last",
            """
def early_stop(scores, patience):
    best, waited = 0, 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        waited = waited + 1 if epoch and score <= scores[epoch - 1] else 0
        if waited >= patience:
            break
    return best, epoch
""",
            "Each score is compared with the one before: after a bad epoch, a less bad "
            "one is no new best.",
        ),
        Wrong(
            "patience-never-renewed",
            """
def early_stop(scores, patience):
    best, waited = 0, 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        elif epoch:
            waited += 1
        if waited >= patience:
            break
    return best, epoch
""",
            "All bad epochs of the run are added up: a new best should give training "
            "its whole patience again.",
        ),
        Wrong(
            "epochs-from-one",
            """
def early_stop(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best + 1, epoch + 1
""",
            "Your epochs are the right ones, but counted from 1; here the first has "
            "number 0.",
        ),
        Wrong(
            "one-epoch-late",
            """
def early_stop(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        if epoch - best > patience:
            break
    return best, epoch
""",
            "Training stops one epoch late: after `patience` epochs without a new best "
            "patience is already out.",
        ),
    ),
)

# --- 06.7 one vote a word -------------------------------------------------------------


def _vote_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([],),
        ([(0, ["B"])],),
        ([(0, ["O", "B", "I"])],),
        ([(0, ["O", "O", "O"]), (1, ["B", "B", "B"])],),
        ([(0, ["O", "O", "O", "O"]), (2, ["B", "B", "I", "I"])],),
        ([(0, ["O", "O", "O"]), (1, ["B", "B", "I", "I"])],),
    ]
    for size, overlap, windows in (
        (4, 3, 2),
        (5, 2, 3),
        (6, 3, 3),
        (6, 4, 4),
        (8, 5, 4),
        (9, 6, 5),
    ):
        step = size - overlap
        starts = [step * i for i in range(windows)]
        sizes = [size] * (windows - 1) + [int(rng.integers(overlap + 1, size + 1))]
        rows = [rng.choice(["O", "B", "I"], n).tolist() for n in sizes]
        cases.append((list(zip(starts, rows, strict=True)),))
    return cases


def _one_vote(windows: list[tuple[int, list[str]]]) -> list[str]:
    """For each word, sort the windows that hold it by their context."""
    length = max((start + len(labels) for start, labels in windows), default=0)
    result = []
    for word in range(length):
        holders = []
        for order, (start, labels) in enumerate(windows):
            if start <= word < start + len(labels):
                left, right = word - start, start + len(labels) - 1 - word
                holders.append((-min(left, right), order, labels[left]))
        result.append(sorted(holders)[0][2])
    return result


ONE_VOTE = Exercise(
    id="06.7",
    title="One vote a word",
    points=3,
    idea="Where windows overlap, a word is labelled where it has the most context.",
    function="one_vote",
    cases=_vote_cases,
    oracle=_one_vote,
    hints=(
        "A label's word is the window's start plus its place in the window.",
        "How many words stand to its left in the window, how many to its right? The "
        "smaller number is its context.",
        "Remember for each word the largest context so far, and the label that came "
        "with it; replace it only for a larger one.",
    ),
    wrong=(
        Wrong(
            "first-window-wins",
            """
def one_vote(windows):
    votes = {}
    for start, labels in windows:
        for i, label in enumerate(labels):
            votes.setdefault(start + i, label)
    return [votes[word] for word in sorted(votes)]
""",
            "The first window always wins, even for its last word, which saw nothing "
            "of what comes after it.",
        ),
        Wrong(
            "last-window-wins",
            """
def one_vote(windows):
    votes = {}
    for start, labels in windows:
        for i, label in enumerate(labels):
            votes[start + i] = label
    return [votes[word] for word in sorted(votes)]
""",
            "The last window always wins, even for its first word, which saw nothing "
            "of what comes before it.",
        ),
        Wrong(
            "windows-joined",
            """
def one_vote(windows):
    return [label for _, labels in windows for label in labels]
""",
            "Words that two windows share come twice: one label a word is wanted.",
        ),
        Wrong(
            "both-sides-counted",
            """
def one_vote(windows):
    votes = {}
    for start, labels in windows:
        for i, label in enumerate(labels):
            if start + i not in votes or len(labels) > votes[start + i][0]:
                votes[start + i] = (len(labels), label)
    return [votes[word][1] for word in sorted(votes)]
""",
            "Left and right together are the same for every word of a window: it is "
            "the shorter side that says how much context is missing.",
        ),
        Wrong(
            "longer-side-counted",
            """
def one_vote(windows):
    votes = {}
    for start, labels in windows:
        for i, label in enumerate(labels):
            context = max(i, len(labels) - 1 - i)
            if start + i not in votes or context > votes[start + i][0]:
                votes[start + i] = (context, label)
    return [votes[word][1] for word in sorted(votes)]
""",
            "Your function goes by the longer side, which is long for every word at an "
            "edge; the shorter side says how much context is missing.",
        ),
        Wrong(
            "tie-to-the-later",
            """
def one_vote(windows):
    votes = {}
    for start, labels in windows:
        for i, label in enumerate(labels):
            context = min(i, len(labels) - 1 - i)
            if start + i not in votes or context >= votes[start + i][0]:
                votes[start + i] = (context, label)
    return [votes[word][1] for word in sorted(votes)]
""",
            "With equal context on both sides the earlier window was to be heard; here "
            "the later one is.",
        ),
        Wrong(
            "majority",
            """
from collections import Counter

def one_vote(windows):
    votes = {}
    for start, labels in windows:
        for i, label in enumerate(labels):
            votes.setdefault(start + i, Counter())[label] += 1
    return [votes[word].most_common(1)[0][0] for word in sorted(votes)]
""",
            "Here windows outvote one another; a window that saw a word at its very "
            "edge should not weigh as much as one that saw it in the middle.",
        ),
    ),
)

EXERCISES = [ALIGN, IOB2, SPAN_F1, REPORT, WARM_UP, EARLY_STOP, ONE_VOTE]
