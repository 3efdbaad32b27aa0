"""Exercises of lesson 05: BERT, line by line."""

from __future__ import annotations

import math
import unicodedata

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 05.1 pieces and their places -----------------------------------------------------


def _pieces_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ("a", ["a"]),
        ("a", ["b"]),
        ("ab", ["a", "ab", "##b"]),
        ("ab", ["a", "b"]),
        ("abc", ["a", "##b", "##bc", "ab"]),
        ("abba", ["a", "##b", "##bb", "##bba", "##a"]),
        ("okafor", ["o", "ok", "##a", "##af", "##or", "##for", "##o", "##r"]),
    ]
    for length in (3, 4, 5, 6, 6, 7):
        word = "".join(rng.choice(list("ab"), length))
        pieces = {"a", "##a"}
        for _ in range(7):
            piece = "".join(rng.choice(list("ab"), rng.integers(1, 4)))
            pieces.add(piece if rng.random() < 0.4 else "##" + piece)
        cases.append((word, rng.permutation(sorted(pieces)).tolist()))
    return cases


def _pieces(word: str, vocabulary: list[str]) -> list:
    """Try all pieces at each place, and keep the longest that fits."""
    found: list[tuple[str, int, int]] = []
    place = 0
    while place < len(word):
        marked = "##" if place else ""
        fit = [p for p in vocabulary if p.startswith("##") == bool(place)]
        fit = [p for p in fit if word.startswith(p[len(marked) :], place)]
        if not fit:
            return [("[UNK]", 0, len(word))]
        longest = max(fit, key=len)
        end = place + len(longest) - len(marked)
        found.append((longest, place, end))
        place = end
    return found


# What the wrong answers share; each changes one thing in it.
_CUT = """
def pieces_with_places(word, vocabulary):
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            piece = prefix + word[start:end]
            if piece in vocabulary:
                break
        else:
            return [("[UNK]", 0, len(word))]
        found.append((piece, start, end))
        start = end
    return found
"""

PIECES = Exercise(
    id="05.1",
    title="Pieces and their places",
    points=3,
    idea="Longest piece first, never back; one piece that is missing costs the word.",
    function="pieces_with_places",
    cases=_pieces_cases,
    oracle=_pieces,
    hints=(
        "At one place of the word: in which order do you try the ends, so that the "
        "first hit is the longest piece?",
        "The mark ## belongs to the name of a piece, not to the word: where does it "
        "count, and where not?",
        "Python's `for … else` (or `next` with a default) says what happens when no "
        "end fits.",
    ),
    wrong=(
        Wrong(
            "shortest-first",
            _CUT.replace("len(word), start, -1", "start + 1, len(word) + 1"),
            "Your function takes the shortest piece that fits; the longest one comes "
            "first.",
        ),
        Wrong(
            "first-in-the-list",
            """
def pieces_with_places(word, vocabulary):
    found, start = [], 0
    while start < len(word):
        for piece in vocabulary:
            text = piece.removeprefix("##")
            if piece.startswith("##") == (start > 0) and word[start:].startswith(text):
                break
        else:
            return [("[UNK]", 0, len(word))]
        found.append((piece, start, start + len(text)))
        start += len(text)
    return found
""",
            "Your function takes the piece that comes first in the vocabulary; its "
            "order says nothing, the length decides.",
        ),
        Wrong(
            "partial-pieces-kept",
            _CUT.replace(
                'return [("[UNK]", 0, len(word))]',
                'return [*found, ("[UNK]", start, len(word))]',
            ),
            "The pieces before the gap are kept; a word that does not come out is one "
            "[UNK] as a whole.",
        ),
        Wrong(
            "character-skipped",
            _CUT.replace(
                '            return [("[UNK]", 0, len(word))]',
                '            found.append(("[UNK]", start, start + 1))\n'
                "            start += 1\n            continue",
            ),
            "Your function makes an [UNK] of one character and goes on; it is the "
            "whole word that becomes unknown.",
        ),
        Wrong(
            "mark-counted",
            _CUT.replace(
                "found.append((piece, start, end))",
                "found.append((piece, start, start + len(piece)))",
            ),
            "The two marks of a continuing piece are counted as characters of the "
            "word.",
        ),
        Wrong(
            "mark-forgotten",
            _CUT.replace('"##" if start else ""', '""'),
            "Inside a word your function looks for pieces that begin one; those that "
            "go on carry a mark.",
        ),
        Wrong(
            "taken-back",
            """
def pieces_with_places(word, vocabulary):
    def cut(start):
        if start == len(word):
            return []
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary and (rest := cut(end)) is not None:
                return [(piece, start, end), *rest]
        return None
    found = cut(0)
    return [("[UNK]", 0, len(word))] if found is None else found
""",
            "Your function takes a piece back when the rest fails, and finds more than "
            "BERT does: greedy never looks back.",
        ),
        Wrong(
            "places-in-the-rest",
            _CUT.replace("(piece, start, end)", "(piece, 0, end - start)"),
            "The places are counted from the beginning of each piece; count from the "
            "beginning of the word.",
        ),
    ),
)

# --- 05.2 accents off, places kept ----------------------------------------------------


_LETTERS = ("é", "e\u0301", "Å", "x", "İ", "ł", "ß", "ﬁ", "Σ", "\u093f", "\u212b", "ñ")


def _plain_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [
        "é",
        "a",
        "e\u0301x",
        "İx",
        "ﬁé",
        "Łó",
        "क\u093fa",
        "\u212bb",
        "ΑΣ a\u0301",
        "ক\u09cbé",  # a vowel that comes apart into two marks with a width
    ]
    for size in (4, 6, 8, 10):
        cases.append("".join(rng.choice(_LETTERS, size)))
    return [(text,) for text in cases]


def _plain(text: str) -> list:
    """Take characters apart by Unicode's table, one after the other."""

    def apart(c: str) -> list[str]:
        codes = unicodedata.decomposition(c).split()
        if not codes or codes[0].startswith("<"):  # none, or only a likeness
            return [c]
        return [part for code in codes for part in apart(chr(int(code, 16)))]

    letters: list[str] = []
    places: list[int] = []
    for place, c in enumerate(text):
        for part in apart(c):
            if unicodedata.category(part) != "Mn":
                letters.append(part.lower())
                places.append(place)
    return ["".join(letters), places]


# What the wrong answers share; each changes one thing in it.
_STRIP = """
import unicodedata

def plain(text):
    kept = []
    for place, c in enumerate(text):
        for part in unicodedata.normalize("NFD", c):
            if unicodedata.category(part) != "Mn":
                kept.append((part.lower(), place))
    return "".join(c for c, _ in kept), [place for _, place in kept]
"""

PLAIN = Exercise(
    id="05.2",
    title="Accents off, places kept",
    points=2,
    idea="Take apart, then drop the marks; and remember where each letter came from.",
    function="plain",
    cases=_plain_cases,
    oracle=_plain,
    hints=(
        "Work on one character at a time: then you always know its place in the text.",
        "One character may come apart into several; all of them came from the same "
        "place.",
        "A mark is told by its category, after taking apart and before lower-casing.",
    ),
    wrong=(
        Wrong(
            "marks-dropped-before-taking-apart",
            _STRIP.replace('unicodedata.normalize("NFD", c)', "c"),
            "Accents that share a character with their letter are still there: they "
            "must be taken apart before marks can be dropped.",
        ),
        Wrong(
            "nothing-dropped",
            _STRIP.replace('unicodedata.category(part) != "Mn"', "True"),
            "The characters are taken apart, but the marks are still in the text.",
        ),
        Wrong(
            "likeness-taken-apart",
            _STRIP.replace('"NFD"', '"NFKD"'),
            "Your function takes ligatures apart, too: that is the K of NFKD, "
            "compatibility, which BERT does not ask for.",
        ),
        Wrong(
            "all-marks-dropped",
            _STRIP.replace('!= "Mn"', '[0] != "M"'),
            "Marks with a width are dropped, too: in Hindi they are vowels, and only "
            "the category without width goes.",
        ),
        Wrong(
            "first-part-only",
            _STRIP.replace('normalize("NFD", c)', 'normalize("NFD", c)[:1]'),
            "Your function keeps the first part of each character only; one may come "
            "apart into two that both stay.",
        ),
        Wrong(
            "places-in-the-taken-apart",
            """
import unicodedata

def plain(text):
    marks = lambda c: unicodedata.category(c) == "Mn"
    apart = unicodedata.normalize("NFD", text)
    kept = [(c.lower(), i) for i, c in enumerate(apart) if not marks(c)]
    return "".join(c for c, _ in kept), [place for _, place in kept]
""",
            "The places count characters after taking apart; asked for are places in "
            "the text as it was given.",
        ),
        Wrong(
            "places-in-the-result",
            _STRIP.replace("[place for _, place in kept]", "list(range(len(kept)))"),
            "The places count the letters of the result; asked is where each of them "
            "stood in the given text.",
        ),
        Wrong(
            "lower-cased-first",
            _STRIP.replace("enumerate(text)", "enumerate(text.lower())"),
            "The text is lower-cased as a whole first: one capital can become two "
            "characters, a final sigma changes, and places move.",
        ),
        Wrong(
            "not-lower-cased",
            _STRIP.replace("part.lower()", "part"),
            "The capitals are still there; this model is uncased.",
        ),
        Wrong(
            "ascii-only",
            _STRIP.replace('unicodedata.category(part) != "Mn"', "part.isascii()"),
            "Everything beyond ASCII is thrown away, whole letters among it; only "
            "marks should go.",
        ),
    ),
)

# --- 05.3 one layer's weights, packed -------------------------------------------------


_THEIRS = (
    ("attention.self.query", "d d"),
    ("attention.self.key", "d d"),
    ("attention.self.value", "d d"),
    ("attention.output.dense", "d d"),
    ("attention.output.LayerNorm", "d"),
    ("intermediate.dense", "i d"),
    ("output.dense", "d i"),
    ("output.LayerNorm", "d"),
)


def _packed_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for d, inner, layers, layer in (
        (1, 2, (0,), 0),
        (2, 3, (0,), 0),
        (2, 3, (0, 1), 0),
        (2, 3, (0, 1), 1),
        (2, 4, (1, 10), 1),
        (2, 3, (1, 10), 10),
        (2, 3, (2, 1, 12), 1),
        (3, 4, (0, 1), 1),
    ):
        theirs = {"embeddings.LayerNorm.weight": rng.integers(1, 9, d).astype(float)}
        for number in layers:
            for name, shape in _THEIRS:
                sizes = [{"d": d, "i": inner}[axis] for axis in shape.split()]
                full = f"encoder.layer.{number}.{name}"
                theirs[f"{full}.weight"] = rng.integers(-9, 10, sizes).astype(float)
                theirs[f"{full}.bias"] = rng.integers(-9, 10, sizes[0]).astype(float)
        cases.append((theirs, layer))
    return cases


def _packed(theirs: dict, layer: int) -> dict:
    """Fetch each tensor by its full name; pack row by row."""
    ours = {}
    for kind in ("weight", "bias"):
        rows = []
        for part in ("query", "key", "value"):
            rows += list(theirs[f"encoder.layer.{layer}.attention.self.{part}.{kind}"])
        ours[f"self_attn.in_proj_{kind}"] = np.array(rows)
        for new, old in (
            ("self_attn.out_proj", "attention.output.dense"),
            ("linear1", "intermediate.dense"),
            ("linear2", "output.dense"),
            ("norm1", "attention.output.LayerNorm"),
            ("norm2", "output.LayerNorm"),
        ):
            ours[f"{new}.{kind}"] = theirs[f"encoder.layer.{layer}.{old}.{kind}"]
    return ours


# What the wrong answers share; each changes one thing in it.
_PACK = """
import numpy as np

def packed(theirs, layer):
    start = f"encoder.layer.{layer}."
    own = {n[len(start):]: t for n, t in theirs.items() if n.startswith(start)}
    ours = {}
    for kind in ("weight", "bias"):
        parts = [own[f"attention.self.{p}.{kind}"] for p in ("query", "key", "value")]
        ours[f"self_attn.in_proj_{kind}"] = np.concatenate(parts)
        ours[f"self_attn.out_proj.{kind}"] = own[f"attention.output.dense.{kind}"]
        ours[f"linear1.{kind}"] = own[f"intermediate.dense.{kind}"]
        ours[f"linear2.{kind}"] = own[f"output.dense.{kind}"]
        ours[f"norm1.{kind}"] = own[f"attention.output.LayerNorm.{kind}"]
        ours[f"norm2.{kind}"] = own[f"output.LayerNorm.{kind}"]
    return ours
"""

PACKED = Exercise(
    id="05.3",
    title="One layer's weights, for PyTorch's own layer",
    points=3,
    idea="The same numbers, renamed and packed otherwise, are the same layer.",
    function="packed",
    cases=_packed_cases,
    oracle=_packed,
    hints=(
        "Which published tensor plays the part of which of PyTorch's? Write the table "
        "first.",
        "A linear layer's weight is (outputs, inputs). Packing three layers adds "
        "outputs, so along which axis?",
        "Mind names that contain one another: layer 1 and layer 10, the two "
        "LayerNorms, the two output.dense.",
    ),
    wrong=(
        Wrong(
            "packed-in-another-order",
            _PACK.replace('("query", "key", "value")', '("key", "query", "value")'),
            "Queries and keys have changed places in the pack; shapes cannot tell, "
            "since they are equal.",
        ),
        Wrong(
            "norms-swapped",
            _PACK.replace("norm1", "norm0")
            .replace("norm2", "norm1")
            .replace("norm0", "norm2"),
            "The two norms have changed places: the first one follows the attention.",
        ),
        Wrong(
            "transposed",
            _PACK.replace("np.concatenate(parts)", "np.concatenate(parts).T").replace(
                '.dense.{kind}"]', '.dense.{kind}"].T'
            ),
            "Your weights are transposed; both sides keep them as (outputs, inputs).",
        ),
        Wrong(
            "dot-for-underscore",
            _PACK.replace("in_proj_{kind}", "in_proj.{kind}"),
            "Your names of the packed layer have a dot before weight and bias; "
            "PyTorch writes in_proj_weight and in_proj_bias.",
        ),
        Wrong(
            "stacked",
            _PACK.replace("np.concatenate(parts)", "np.stack(parts)"),
            "The three are stacked along an axis of their own; packed means one longer "
            "matrix.",
        ),
        Wrong(
            "side-by-side",
            _PACK.replace("np.concatenate(parts)", "np.hstack(parts)"),
            "The three matrices stand side by side, so that inputs are added; a packed "
            "layer has the same inputs and three times the outputs.",
        ),
        Wrong(
            "one-is-also-ten",
            _PACK.replace('{layer}."', '{layer}"').replace(
                "n[len(start):]", 'n.split(".", 3)[3]'
            ),
            "Layer 10 has slipped in for layer 1: the name of one begins like the "
            "other's.",
        ),
        Wrong(
            "feed-forward-swapped",
            _PACK.replace('own[f"intermediate', 'own[f"X')
            .replace('own[f"output.dense', 'own[f"intermediate.dense')
            .replace('own[f"X.dense', 'own[f"output.dense'),
            "The two layers of the feed-forward net have changed places: the first one "
            "widens.",
        ),
        Wrong(
            "output-for-output",
            _PACK.replace('own[f"attention.output.LayerNorm', 'own[f"output.LayerNorm'),
            "Both norms are the same one: output.LayerNorm is part of the longer name, "
            "too.",
        ),
    ),
)

# --- 05.4 whole words masked ----------------------------------------------------------


def _masked_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([7], [0], [0.1], [0.1], [9]),
        ([7], [0], [0.5], [0.1], [9]),
        ([7], [0], [0.1], [0.85], [9]),
        ([1, 7, 2], [-1, 0, -1], [0.1], [0.5, 0.95, 0.2], [9, 8, 7]),
        ([1, 7, 8, 2], [-1, 0, 0, -1], [0.1], [0.3, 0.3, 0.85, 0.2], [9, 9, 5, 9]),
    ]
    for words in (3, 3, 4, 4, 5):
        lengths = rng.integers(1, 4, words)
        belongs = [-1, *np.repeat(np.arange(words), lengths).tolist(), -1, -1]
        size = len(belongs)
        ids = [1, *rng.integers(5, 90, size - 3).tolist(), 2, 0]
        of_word = rng.choice([0.05, 0.12, 0.4, 0.9], words)
        of_word[rng.integers(words)], of_word[-1] = 0.1, 0.02
        of_piece = rng.choice([0.1, 0.5, 0.79, 0.85, 0.93], size)
        others = rng.integers(5, 90, size)
        cases.append((ids, belongs, of_word, of_piece, others))
    return [(*(np.array(part) for part in case), 3) for case in cases]


def _masked(ids, words, word_dice, piece_dice, others, mask_id) -> list:
    """Piece by piece, by the rules as they stand in the task."""
    shown, labels = [], []
    for i, piece in enumerate(ids.tolist()):
        word = int(words[i])
        if word == -1 or word_dice[word] >= 0.15:
            shown.append(piece)
            labels.append(-100)
            continue
        labels.append(piece)
        if piece_dice[i] < 0.8:
            shown.append(mask_id)
        elif piece_dice[i] < 0.9:
            shown.append(int(others[i]))
        else:
            shown.append(piece)
    return [shown, labels]


# What the wrong answers share; each changes one thing in it.
_MASKED = """
import numpy as np

def corrupt_words(ids, words, word_dice, piece_dice, others, mask_id):
    chosen = (words >= 0) & (word_dice[words] < 0.15)
    shown = ids.copy()
    mask = chosen & (piece_dice < 0.8)
    other = chosen & (piece_dice >= 0.8) & (piece_dice < 0.9)
    shown[mask] = mask_id
    shown[other] = others[other]
    labels = np.where(chosen, ids, -100)
    return shown, labels
"""

MASKED = Exercise(
    id="05.4",
    title="Whole words masked",
    points=3,
    idea="15 % are asked; 80, 10 and 10 % are shares of these, and only they have a "
    "label.",
    function="corrupt_words",
    cases=_masked_cases,
    oracle=_masked,
    hints=(
        "First one boolean array: which pieces are chosen? Everything else is *and* "
        "with it.",
        "Indexing by word numbers works for a whole array at once; but what does an "
        "index of -1 fetch?",
        "The label does not depend on what is shown: a piece that stays is asked all "
        "the same.",
    ),
    wrong=(
        Wrong(
            "loss-on-all",
            _MASKED.replace("np.where(chosen, ids, -100)", "ids.copy()"),
            "Every place has a label, so the loss is mostly about copying what is "
            "plainly visible.",
        ),
        Wrong(
            "specials-chosen",
            _MASKED.replace("(words >= 0) & ", ""),
            "Special pieces and pads are chosen, too: -1 as an index means the last "
            "word.",
        ),
        Wrong(
            "shares-of-all-pieces",
            _MASKED.replace("mask = chosen & ", "mask = ").replace(
                "other = chosen & ", "other = "
            ),
            "The 80 and 10 percent are taken of all pieces; they are shares of the "
            "chosen ones.",
        ),
        Wrong(
            "label-where-changed",
            _MASKED.replace("np.where(chosen,", "np.where(shown != ids,"),
            "Chosen pieces that stay as they are have no label; they should be asked "
            "as well, or staying would have no use.",
        ),
        Wrong(
            "label-of-the-shown",
            _MASKED.replace("np.where(chosen, ids,", "np.where(chosen, shown,"),
            "The labels hold what is shown; the right answer is the piece that stood "
            "there before.",
        ),
        Wrong(
            "first-piece-only",
            _MASKED.replace(
                "    shown = ids",
                "    chosen &= np.insert(words[1:] != words[:-1], 0, True)\n"
                "    shown = ids",
            ),
            "Only the first piece of a chosen word is hidden, so the rest gives it "
            "away: a word goes as a whole.",
        ),
        Wrong(
            "random-and-kept-swapped",
            _MASKED.replace(
                "(piece_dice >= 0.8) & (piece_dice < 0.9)", "(piece_dice >= 0.9)"
            ),
            "The shares are right, but random and kept have changed places on the "
            "dice.",
        ),
        Wrong(
            "always-the-mask",
            _MASKED.replace("piece_dice < 0.8", "piece_dice < 2").replace(
                "piece_dice >= 0.8", "piece_dice > 2"
            ),
            "Every chosen piece becomes the mask; a model trained so need not care "
            "about places without one.",
        ),
    ),
)

# --- 05.5 a head's score --------------------------------------------------------------


def _before_cases(rng: np.random.Generator) -> list[tuple]:
    cases = [(np.ones((1, 1, 1)), np.array([1]))]
    for tokens, lengths in (
        (2, (2,)),
        (3, (3,)),
        (3, (3, 2)),
        (4, (4, 2)),
        (4, (1, 3)),
        (5, (5, 2, 3)),
        (5, (0, 5, 1)),
        (6, (3, 6, 2)),
    ):
        raw = rng.random((len(lengths), tokens, tokens)) ** 3
        real = np.arange(tokens) < np.array(lengths)[:, None]
        raw = raw * real[:, None, :]
        total = raw.sum(axis=-1, keepdims=True)
        weights = raw / np.where(total > 0, total, 1.0)
        cases.append((weights.round(4), np.array(lengths)))
    return cases


def _before(weights: np.ndarray, lengths: np.ndarray) -> float:
    """Collect the weights one by one."""
    found = [
        weights[text, place, place - 1]
        for text, length in enumerate(lengths.tolist())
        for place in range(1, length)
    ]
    return math.fsum(found) / len(found) if found else 0.0


# What the wrong answers share; each changes one thing in it.
_BEFORE = """
import numpy as np

def before_score(weights, lengths):
    tokens = weights.shape[1]
    asks = np.arange(1, tokens) < lengths[:, None]
    given = np.diagonal(weights, offset=-1, axis1=1, axis2=2)
    return float((given * asks).sum() / max(asks.sum(), 1))
"""

BEFORE = Exercise(
    id="05.5",
    title="Does this head look back by one?",
    points=2,
    idea="A score is a mean over questions that were really asked: no pads, no first "
    "place.",
    function="before_score",
    cases=_before_cases,
    oracle=_before,
    hints=(
        "Write it for one text without pads first: which entries of the square are "
        "meant?",
        "Rows ask, columns are read; a pad asks nothing, and the first place has "
        "nobody before it.",
        "Sum over all texts and count over all texts; divide once, at the end.",
    ),
    wrong=(
        Wrong(
            "pads-ask",
            _BEFORE.replace("< lengths[:, None]", "< lengths[:, None] + tokens"),
            "Pads ask, too: their rows are full of weights, and say nothing about the "
            "text.",
        ),
        Wrong(
            "mean-of-means",
            """
import numpy as np

def before_score(weights, lengths):
    found = [
        np.mean([w[i, i - 1] for i in range(1, n)])
        for w, n in zip(weights, lengths) if n > 1
    ]
    return float(np.mean(found)) if found else 0.0
""",
            "Each text counts the same, however short it is; here each query counts "
            "the same.",
        ),
        Wrong(
            "looks-ahead",
            _BEFORE.replace("offset=-1", "offset=1"),
            "This is the weight on the place behind: rows ask, columns are read.",
        ),
        Wrong(
            "first-place-counted",
            _BEFORE.replace("max(asks.sum(), 1)", "max(lengths.sum(), 1)"),
            "The first place is counted as a question; nothing stands before it.",
        ),
        Wrong(
            "around-the-corner",
            """
import numpy as np

def before_score(weights, lengths):
    places = np.arange(weights.shape[1])
    given = weights[:, places, places - 1]
    asks = places < lengths[:, None]
    return float((given * asks).sum() / max(asks.sum(), 1))
""",
            "The first place reads the last one here: an index of -1 goes around the "
            "corner.",
        ),
        Wrong(
            "nobody-asks-nan",
            _BEFORE.replace("max(asks.sum(), 1)", "asks.sum()").replace(
                "    tokens =", '    np.seterr(all="ignore")\n    tokens ='
            ),
            "Where no place has one before it, your function divides 0 by 0; say 0 "
            "then.",
        ),
        Wrong(
            "largest-not-mean",
            """
import numpy as np

def before_score(weights, lengths):
    right = count = 0
    for w, n in zip(weights, lengths):
        for i in range(1, n):
            right += w[i].argmax() == i - 1
            count += 1
    return float(right / max(count, 1))
""",
            "Your function counts how often the place before gets the most; asked is "
            "how much it gets.",
        ),
    ),
)

# --- 05.6 a tied head -----------------------------------------------------------------


def _tied_cases(rng: np.random.Generator) -> list[tuple]:
    both = np.array([True, True])
    large = np.array([[900.0]]), np.array([[1.0], [0.5]]), np.zeros(2), np.array([1])
    cases: list[tuple] = [(*large, both)]
    # So unlikely a word that its weight is no number but 0.
    state, table = np.array([[-900.0]]), np.array([[1.0], [0.0]])
    cases.append((state, table, np.zeros(2), np.array([0]), both))
    for tokens, d, size, scale in (
        (1, 1, 2, 1),
        (1, 2, 3, 1),
        (2, 2, 3, 1),
        (3, 2, 4, 1),
        (3, 3, 5, 1),
        (4, 3, 5, 1),
        (4, 2, 5, 300),
        (5, 3, 6, 2),
        (3, 2, 4, 1),
    ):
        states = rng.normal(size=(tokens, d)).round(2) * scale
        table = rng.normal(size=(size, d)).round(2)
        bias = rng.normal(size=size).round(2)
        allowed = rng.random(size) < 0.7
        allowed[rng.integers(size)] = True
        labels = np.full(tokens, -100)
        asked = rng.random(tokens) < 0.6
        asked[0] = True
        labels[asked] = rng.choice(np.flatnonzero(allowed), int(asked.sum()))
        if len(cases) == 9:  # the last one
            labels[:] = -100
        cases.append((states, table, bias, labels, allowed))
    return cases


def _tied(states, table, bias, labels, allowed) -> float:
    """Place by place, rival by rival."""
    losses = []
    for state, label in zip(states.tolist(), labels.tolist(), strict=True):
        if label == -100:
            continue
        score = [
            math.fsum(a * b for a, b in zip(state, row, strict=True)) + float(shift)
            for row, shift in zip(table.tolist(), bias, strict=True)
        ]
        rivals = [s for s, may in zip(score, allowed, strict=True) if may]
        top = max(rivals)
        total = math.fsum(math.exp(s - top) for s in rivals)
        losses.append(top + math.log(total) - score[label])
    return math.fsum(losses) / len(losses) if losses else 0.0


# What the wrong answers share; each changes one thing in it.
_TIED = """
import numpy as np

def masked_loss(states, table, bias, labels, allowed):
    scores = np.where(allowed, states @ table.T + bias, -np.inf)
    top = scores.max(axis=1, keepdims=True)
    logs = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    places = np.flatnonzero(labels != -100)
    losses = -logs[places, labels[places]]
    return float(losses.sum() / max(len(places), 1))
"""

TIED = Exercise(
    id="05.6",
    title="A head made of the vocabulary",
    points=2,
    idea="A piece's score is the dot product with its own vector; only hidden places "
    "count.",
    function="masked_loss",
    cases=_tied_cases,
    oracle=_tied,
    hints=(
        "The scores are (token, vocabulary): one row a place, one column a piece.",
        "Who may not compete gets a score that no softmax gives weight to.",
        "Subtract the largest score of a row before the exponential, and divide by the "
        "number of places that are asked.",
    ),
    wrong=(
        Wrong(
            "averaged-over-all",
            _TIED.replace("max(len(places), 1)", "len(labels)"),
            "The sum is right, but divided by all places: the loss then depends on how "
            "few were hidden.",
        ),
        Wrong(
            "loss-on-all",
            _TIED.replace("labels != -100", "labels > -200").replace(
                "labels[places]]", "np.maximum(labels[places], allowed.argmax())]"
            ),
            "Places that were not asked have a loss as well: -100 is no piece, it says "
            "skip.",
        ),
        Wrong(
            "bias-forgotten",
            _TIED.replace(" + bias", ""),
            "The bias is missing: it says how frequent a piece is, whatever the text.",
        ),
        Wrong(
            "all-compete",
            _TIED.replace(
                "np.where(allowed, states @ table.T + bias, -np.inf)",
                "states @ table.T + bias",
            ),
            "Pieces that may not be guessed take part in the softmax, and take "
            "probability away.",
        ),
        Wrong(
            "multiplied-by-zero",
            _TIED.replace(
                "np.where(allowed, states @ table.T + bias, -np.inf)",
                "(states @ table.T + bias) * allowed",
            ),
            "Forbidden pieces get a score of 0 and not a probability of 0: e to the 0 "
            "is 1.",
        ),
        Wrong(
            "over-places",
            _TIED.replace("axis=1", "axis=0").replace("-np.inf)", "-1e9)"),
            "Your softmax runs over the places; the pieces of one place compete with "
            "each other.",
        ),
        Wrong(
            "overflow",
            _TIED.replace("scores.max(axis=1, keepdims=True)", "0.0").replace(
                "    scores =", '    np.seterr(all="ignore")\n    scores ='
            ),
            "Large scores overflow: e to the 800 is no number. A softmax does not "
            "change when a row is shifted.",
        ),
        Wrong(
            "probability-not-logarithm",
            _TIED.replace(
                "losses = -logs[places, labels[places]]",
                "losses = 1 - np.exp(logs[places, labels[places]])",
            ),
            "This is one minus the probability; the loss is minus its logarithm.",
        ),
    ),
)

# --- 05.7 counting parameters ---------------------------------------------------------


def _count_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        (2, 1, 1, 1, 1, 1, False),
        (2, 1, 1, 1, 1, 1, True),
        (5, 2, 2, 1, 3, 1, False),
        (5, 2, 2, 2, 3, 2, True),
        (30522, 512, 384, 6, 1536, 12, False),
        (30522, 512, 768, 12, 3072, 12, True),
    ]
    for _ in range(4):
        heads, width = rng.integers(2, 5, 2).tolist()
        d = heads * width
        size, places, inner = rng.integers(5, 99, 3).tolist()
        layers = int(rng.integers(1, 4))
        head = bool(rng.random() < 0.5)
        cases.append((size, places, d, layers, inner, heads, head))
    return cases


def _count(vocabulary, places, d_model, layers, inner, heads, tied_head) -> int:
    """Write down every tensor's shape, and add the products."""
    norm = [(d_model,), (d_model,)]
    shapes = [(vocabulary, d_model), (places, d_model), (2, d_model), *norm]
    for _ in range(layers):
        shapes += [(heads, d_model // heads, d_model)] * 3 + [(d_model,)] * 3
        shapes += [(d_model, d_model), (d_model,), *norm]
        shapes += [(inner, d_model), (inner,), (d_model, inner), (d_model,), *norm]
    if tied_head:
        shapes += [(d_model, d_model), (d_model,), *norm, (vocabulary,)]
    return sum(math.prod(shape) for shape in shapes)


# What the wrong answers share; each changes one thing in it.
_COUNT = """
def count_parameters(vocabulary, places, d_model, layers, inner, heads, tied_head):
    def linear(n, m):
        return n * m + m
    norm = 2 * d_model
    embeddings = (vocabulary + places + 2) * d_model + norm
    attention = 4 * linear(d_model, d_model)
    forward = linear(d_model, inner) + linear(inner, d_model)
    head = linear(d_model, d_model) + norm + vocabulary
    return embeddings + layers * (attention + forward + 2 * norm) + tied_head * head
"""

COUNT = Exercise(
    id="05.7",
    title="Count a BERT",
    points=2,
    idea="Most of a small BERT is its vocabulary, then the feed-forward nets; more "
    "heads cost nothing.",
    function="count_parameters",
    cases=_count_cases,
    oracle=_count,
    hints=(
        "Go through the classes of the lesson, line by line, and write a term for each "
        "layer that is built.",
        "A linear layer from n to m has n · m weights and m biases; a norm has a gain "
        "and a shift for each feature.",
        "Which part of the tied head is new, and which is there already?",
    ),
    wrong=(
        Wrong(
            "each-head-whole",
            _COUNT.replace(
                "4 * linear(d_model, d_model)", "4 * heads * linear(d_model, d_model)"
            ),
            "Every head gets matrices of full width; the heads share one of that size "
            "between them.",
        ),
        Wrong(
            "no-biases",
            _COUNT.replace("n * m + m", "n * m"),
            "The biases of the linear layers are missing.",
        ),
        Wrong(
            "three-projections",
            _COUNT.replace("4 * linear", "3 * linear"),
            "Query, key and value are counted; there is one more matrix that mixes "
            "what the heads bring.",
        ),
        Wrong(
            "one-norm-a-layer",
            _COUNT.replace("2 * norm)", "norm)"),
            "A layer has two norms: one after each sum.",
        ),
        Wrong(
            "norms-without-shift",
            _COUNT.replace("norm = 2 * d_model", "norm = d_model"),
            "A norm has a gain and a shift for each feature; one of them is missing.",
        ),
        Wrong(
            "segments-forgotten",
            _COUNT.replace("places + 2)", "places)"),
            "The table of segments is missing: it has two rows.",
        ),
        Wrong(
            "head-not-tied",
            _COUNT.replace("+ vocabulary\n", "+ vocabulary * (d_model + 1)\n"),
            "The head gets a vocabulary matrix of its own; tied means that it uses the "
            "one that is there.",
        ),
        Wrong(
            "small-layer-forgotten",
            _COUNT.replace(
                "linear(d_model, d_model) + norm + vocabulary", "vocabulary"
            ),
            "Of the head only the bias is counted; before the scores stand one small "
            "layer and a norm of its own.",
        ),
        Wrong(
            "head-without-norm",
            _COUNT.replace("+ norm + vocabulary", "+ vocabulary"),
            "The norm behind the head's small layer is missing.",
        ),
        Wrong(
            "head-without-bias",
            _COUNT.replace("norm + vocabulary\n", "norm\n"),
            "The head's own bias is missing: a number for each piece.",
        ),
        Wrong(
            "head-always",
            _COUNT.replace("tied_head * head", "head"),
            "The head is counted even where there is none.",
        ),
    ),
)

EXERCISES = [PIECES, PLAIN, PACKED, MASKED, BEFORE, TIED, COUNT]
