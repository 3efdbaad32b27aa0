"""Exercises of lesson 04b: the Transformer block."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 04b.1 a norm for each head -------------------------------------------------------


def _norm_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for tokens, d_head, heads, eps in (
        (1, 2, 1, 0.0),
        (1, 2, 2, 0.0),
        (1, 3, 2, 0.5),
        (2, 2, 2, 0.0),
        (2, 3, 2, 1.0),
        (3, 2, 3, 0.25),
        (2, 4, 2, 0.0),
        (3, 3, 2, 0.5),
        (2, 3, 4, 1e-5),
    ):
        # Distinct numbers, so that no slice has deviation 0.
        states = rng.permutation(np.arange(-20.0, 21.0))[: tokens * d_head * heads]
        gain = rng.integers(1, 5, d_head * heads) / 2
        cases.append((states.reshape(tokens, -1), heads, gain, eps))
    return cases


def _norm(states: np.ndarray, num_heads: int, gain: np.ndarray, eps: float) -> list:
    """Number by number, slice by slice."""
    d_head = states.shape[1] // num_heads
    result = []
    for row in states.tolist():
        new: list[float] = []
        for start in range(0, len(row), d_head):
            part = row[start : start + d_head]
            middle = math.fsum(part) / d_head
            spread = math.sqrt(sum((x - middle) ** 2 for x in part) / d_head + eps)
            new += [(x - middle) / spread for x in part]
        result.append([x * g for x, g in zip(new, gain.tolist(), strict=True)])
    return result


# What the wrong answers share; each changes one thing in it.
_NORM = """
import numpy as np

def norm_heads(states, num_heads, gain, eps):
    cut = states.reshape(len(states), num_heads, -1)
    middle = cut.mean(axis=-1, keepdims=True)
    spread = np.sqrt(cut.var(axis=-1, keepdims=True) + eps)
    return ((cut - middle) / spread).reshape(len(states), -1) * gain
"""

NORM = Exercise(
    id="04b.1",
    title="A norm for each head",
    points=2,
    idea="A norm is as wide as what it looks at: here one slice of one word.",
    function="norm_heads",
    cases=_norm_cases,
    oracle=_norm,
    tolerance=1e-5,
    hints=(
        "Cut each row into its heads first: (token, head, d_head). Over which of the "
        "three axes does the mean run?",
        "Mean and variance are needed with that axis kept as size 1, so that they can "
        "be subtracted and divided.",
        "Back to (token, d_model) before the gain: it has one number for each feature.",
    ),
    wrong=(
        Wrong(
            "whole-row",
            """
import numpy as np

def norm_heads(states, num_heads, gain, eps):
    middle = states.mean(axis=1, keepdims=True)
    return (states - middle) / np.sqrt(states.var(axis=1, keepdims=True) + eps) * gain
""",
            "The whole row is normed at once, so that a loud head still drowns a quiet "
            "one: each head has a mean and a deviation of its own.",
        ),
        Wrong(
            "over-words",
            _NORM.replace("axis=-1", "axis=0").replace(
                "import numpy as np\n",
                'import numpy as np\n\nnp.seterr(all="ignore")\n',
            ),
            "Your function norms over the words, so a word depends on its neighbours; "
            "a layer norm looks at one word alone.",
        ),
        Wrong(
            "sample-variance",
            _NORM.replace(
                "cut.var(axis=-1, keepdims=True)",
                "cut.var(axis=-1, keepdims=True, ddof=1)",
            ),
            "Your function divides the squares by one less than their number, as "
            "statistics does for samples; the norm takes their plain mean.",
        ),
        Wrong(
            "eps-outside-the-root",
            _NORM.replace("keepdims=True) + eps)", "keepdims=True)) + eps"),
            "Your function adds eps to the deviation; it belongs to the variance, "
            "under the root.",
        ),
        Wrong(
            "eps-forgotten",
            _NORM.replace(" + eps", " + 0 * eps"),
            "Right where eps is 0: eps has no effect yet, and a row of equal numbers "
            "would give no number.",
        ),
        Wrong(
            "variance-for-deviation",
            _NORM.replace(
                "np.sqrt(cut.var(axis=-1, keepdims=True) + eps)",
                "cut.var(axis=-1, keepdims=True) + eps",
            ),
            "Your function divides by the variance; twice as large numbers would then "
            "come out half as large, and not the same.",
        ),
        Wrong(
            "every-other-feature",
            """
import numpy as np

def norm_heads(states, num_heads, gain, eps):
    cut = states.reshape(len(states), -1, num_heads)
    middle = cut.mean(axis=1, keepdims=True)
    spread = np.sqrt(cut.var(axis=1, keepdims=True) + eps)
    return ((cut - middle) / spread).reshape(len(states), -1) * gain
""",
            "Your function gives a head features that stand apart; a head's slice is a "
            "block of neighbours.",
        ),
        Wrong(
            "gain-first",
            _NORM.replace("cut = states.", "cut = (states * gain).").replace(
                ".reshape(len(states), -1) * gain", ".reshape(len(states), -1)"
            ),
            "Your function multiplies by the gain first, and the norm takes it out "
            "again; the gain comes last.",
        ),
    ),
)

# --- 04b.2 a pre-norm block -----------------------------------------------------------


def _block_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for tokens, d_model, d_inner in (
        (1, 2, 1),
        (1, 3, 2),
        (2, 2, 1),
        (2, 3, 2),
        (2, 4, 3),
        (3, 3, 2),
        (3, 4, 5),
        (4, 3, 4),
        (3, 5, 6),
    ):
        states = rng.permutation(np.arange(-12.0, 13.0))[: tokens * d_model] / 2
        parts = rng.integers(1, 6, (tokens, tokens)).astype(float)
        parts += np.triu(np.full((tokens, tokens), 3.0), 1)  # and not symmetric
        keys, values = rng.integers(-3, 4, (2, d_inner, d_model)).astype(float)
        keys[0] = np.arange(d_model) - 1.0  # one key that some word wakes
        weights = parts / parts.sum(axis=1, keepdims=True)
        cases.append((states.reshape(tokens, -1), weights, keys, values))
    return cases


def _block(
    states: np.ndarray, weights: np.ndarray, keys: np.ndarray, values: np.ndarray
) -> list:
    """Word by word, key by key."""

    def normed(row: list[float]) -> list[float]:
        middle = sum(row) / len(row)
        squares = [(x - middle) ** 2 for x in row]
        spread = math.sqrt(sum(squares) / len(row) + 1e-5)
        return [(x - middle) / spread for x in row]

    rows = states.tolist()
    clean = [normed(row) for row in rows]
    result = []
    for i, row in enumerate(rows):
        path = list(row)
        for j, other in enumerate(clean):
            path = [x + weights[i, j] * y for x, y in zip(path, other, strict=True)]
        seen = normed(path)
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            fit = sum(x * k for x, k in zip(seen, key, strict=True))
            if fit > 0:
                path = [x + fit * v for x, v in zip(path, value, strict=True)]
        result.append(path)
    return result


# What the wrong answers share; each changes one thing in it.
_BLOCK = """
import numpy as np

def pre_norm_block(states, weights, keys, values):
    def norm(x):
        middle = x.mean(axis=-1, keepdims=True)
        return (x - middle) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    def look_up(x):
        return np.maximum(x @ keys.T, 0.0) @ values
    path = states + weights @ norm(states)
    return path + look_up(norm(path))
"""

BLOCK = Exercise(
    id="04b.2",
    title="A block with the norm in front",
    points=3,
    idea=(
        "Parts read normed states; the path of the sums itself is never normed, from "
        "the first layer to the last."
    ),
    function="pre_norm_block",
    cases=_block_cases,
    oracle=_block,
    tolerance=1e-5,
    hints=(
        "Two steps of the same form: the sum so far, plus what a part makes of the "
        "normed sum so far.",
        "The second part reads the sum after the first one, normed anew.",
        "The feed-forward net: fit to each key, nothing below zero, times the values.",
    ),
    wrong=(
        Wrong(
            "post-norm",
            _BLOCK.replace("weights @ norm(states)", "weights @ states")
            .replace(
                "path = states + weights @ states",
                "path = norm(states + weights @ states)",
            )
            .replace(
                "return path + look_up(norm(path))", "return norm(path + look_up(path))"
            ),
            "This is the post-norm block, as BERT has it: there the sum itself is "
            "normed, here only what a part reads.",
        ),
        Wrong(
            "added-to-the-normed",
            _BLOCK.replace("path = states +", "path = norm(states) +").replace(
                "return path +", "return norm(path) +"
            ),
            "What was read is added to the normed states, so the states themselves are "
            "lost on the way: the path goes around the norm.",
        ),
        Wrong(
            "second-norm-forgotten",
            _BLOCK.replace("look_up(norm(path))", "look_up(path)"),
            "The feed-forward net reads the plain sum; it has a norm in front of it as "
            "well.",
        ),
        Wrong(
            "first-norm-forgotten",
            _BLOCK.replace("weights @ norm(states)", "weights @ states"),
            "Attention blends the plain states; it has a norm in front of it as well.",
        ),
        Wrong(
            "side-by-side",
            _BLOCK.replace("look_up(norm(path))", "look_up(norm(states))"),
            "Both parts read the same states, side by side; the memory should see what "
            "attention has brought.",
        ),
        Wrong(
            "no-first-path",
            _BLOCK.replace("path = states + ", "path = "),
            "The words are replaced by what they read: the path around attention is "
            "missing.",
        ),
        Wrong(
            "no-second-path",
            _BLOCK.replace("return path + ", "return "),
            "The path around the feed-forward net is missing: what no key answers to "
            "becomes zero.",
        ),
        Wrong(
            "no-relu",
            _BLOCK.replace("np.maximum(x @ keys.T, 0.0)", "(x @ keys.T)"),
            "Keys that do not fit take part with a negative weight; a ReLU keeps them "
            "silent.",
        ),
        Wrong(
            "weights-on-their-side",
            _BLOCK.replace("weights @ norm", "weights.T @ norm"),
            "The table of weights is used on its side: a row belongs to the word that "
            "reads.",
        ),
    ),
)

# --- 04b.3 credit ---------------------------------------------------------------------


def _credit_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for d_model, d_inner, answers in (
        (1, 1, 1),
        (2, 1, 2),
        (2, 2, 1),
        (2, 3, 2),
        (3, 3, 3),
        (3, 4, 2),
        (4, 4, 3),
        (3, 5, 4),
        (4, 6, 4),
    ):
        state = rng.integers(1, 5, d_model).astype(float)
        keys = rng.integers(-3, 4, (d_inner, d_model)).astype(float)
        keys[0] = 1.0  # this one fires
        bias = rng.integers(-3, 4, d_inner).astype(float)
        bias[0] = 2.0
        values = rng.integers(-3, 4, (d_inner, d_model)).astype(float)
        readout = rng.integers(-3, 4, (answers, d_model)).astype(float)
        cases.append((state, keys, bias, values, readout))
    return cases


def _credit(
    state: np.ndarray,
    keys: np.ndarray,
    bias: np.ndarray,
    values: np.ndarray,
    readout: np.ndarray,
) -> list:
    """Run the net with one key at a time."""
    shares = []
    for number in range(len(keys)):
        fit = sum(a * b for a, b in zip(keys[number], state, strict=True))
        fires = max(float(fit + bias[number]), 0.0)
        output = [fires * float(v) for v in values[number]]
        shares.append(
            [
                float(sum(r * o for r, o in zip(row, output, strict=True)))
                for row in readout
            ]
        )
    return shares


# What the wrong answers share; each changes one thing in it.
_CREDIT = """
import numpy as np

def credit(state, keys, bias, values, readout):
    fires = np.maximum(keys @ state + bias, 0.0)
    return (fires[:, None] * values) @ readout.T
"""

CREDIT = Exercise(
    id="04b.3",
    title="Which key said it?",
    points=2,
    idea="What a memory says is a sum over its keys, so each key has a share in it.",
    function="credit",
    cases=_credit_cases,
    oracle=_credit,
    hints=(
        "First how strongly each key fires: one number a key, never below zero.",
        "A key adds its value, that many times. What does the value alone score for "
        "each answer?",
        "Two tables meet: a column of firing, (d_inner, 1), and the values' scores, "
        "(d_inner, answer).",
    ),
    wrong=(
        Wrong(
            "all-keys-together",
            """
import numpy as np

def credit(state, keys, bias, values, readout):
    fires = np.maximum(keys @ state + bias, 0.0)
    return readout @ (fires @ values)
""",
            "These are the scores themselves; asked for is each key's share in them.",
        ),
        Wrong(
            "firing-only",
            """
import numpy as np

def credit(state, keys, bias, values, readout):
    fires = np.maximum(keys @ state + bias, 0.0)
    return np.repeat(fires[:, None], len(readout), axis=1)
""",
            "How strongly a key fires is half of the story: its value decides what it "
            "speaks for, and what against.",
        ),
        Wrong(
            "bias-forgotten",
            _CREDIT.replace(" + bias", " + 0 * bias"),
            "The bias has no effect yet: it decides how good a fit must be before the "
            "key fires.",
        ),
        Wrong(
            "no-relu",
            _CREDIT.replace(
                "np.maximum(keys @ state + bias, 0.0)", "keys @ state + bias"
            ),
            "Keys that do not fire get a share here: below zero a ReLU is silent.",
        ),
        Wrong(
            "relu-at-the-end",
            """
import numpy as np

def credit(state, keys, bias, values, readout):
    fits = keys @ state + bias
    return np.maximum((fits[:, None] * values) @ readout.T, 0.0)
""",
            "The ReLU stands at the end here, so that no key can speak against an "
            "answer; it belongs to the firing.",
        ),
        Wrong(
            "softmax",
            _CREDIT.replace(
                "np.maximum(keys @ state + bias, 0.0)",
                "np.exp(keys @ state + bias - (keys @ state + bias).max())\n"
                "    fires = fires / fires.sum()",
            ),
            "Your keys compete in a softmax, as in attention; in a feed-forward net "
            "each fires for itself.",
        ),
        Wrong(
            "keys-and-values-swapped",
            _CREDIT.replace("keys @ state", "values @ state").replace(
                "* values)", "* keys)"
            ),
            "Keys and values have changed places: the state is compared with the keys, "
            "and the values are handed over.",
        ),
        Wrong(
            "on-its-side",
            _CREDIT.replace("@ readout.T", "@ readout.T").replace(
                "return (fires[:, None] * values) @ readout.T",
                "return readout @ (fires[:, None] * values).T",
            ),
            "The numbers are right and the table lies on its side: a row for each key, "
            "a column for each answer.",
        ),
    ),
)

# --- 04b.4 packed inputs --------------------------------------------------------------


def _packed_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([[3, 1]], 0, 1),
        ([[3, 1, -100]], 0, 1),
        ([[3, 1, 4, 1]], 0, 1),
        ([[1, 1, 2, 1]], 5, 1),
    ]
    for texts, tokens in ((1, 7), (2, 6), (2, 8), (3, 7), (3, 9)):
        start, end = rng.choice(np.arange(10, 20), 2, replace=False).tolist()
        rows = []
        for pads in rng.permutation(texts).tolist():
            row = rng.integers(1, 10, tokens - pads)
            row[-1] = row[tokens // 2 - 1] = end
            rows.append([*row.tolist(), *[-100] * pads])
        cases.append((rows, start, end))
    return [(np.array(rows), start, end) for rows, start, end in cases]


def _packed(labels: np.ndarray, start: int, end: int) -> list:
    """Write one text after the other."""
    rows = []
    for row in labels.tolist():
        seen, before = [], start
        for label in row:
            if label == -100:
                seen.append(end)
            else:
                seen.append(before)
                before = start if label == end else label
        rows.append(seen)
    return rows


# What the wrong answers share; each changes one thing in it.
_PACKED = """
import numpy as np

def packed_inputs(labels, start, end):
    moved = np.concatenate([np.full_like(labels[:, :1], start), labels[:, :-1]], axis=1)
    moved = np.where(moved == end, start, moved)
    return np.where(labels == -100, end, moved)
"""

PACKED = Exercise(
    id="04b.4",
    title="Inputs for a packed row",
    points=2,
    idea="The input at a place is what stands before it, within its own text.",
    function="packed_inputs",
    cases=_packed_cases,
    oracle=_packed,
    hints=(
        "Without packing: START, then the labels but the last one.",
        "After the move, an END in the inputs means that a new text begins here.",
        "Pads are recognised by the label at the place itself, not by the one before "
        "it; set them last.",
    ),
    wrong=(
        Wrong(
            "not-moved",
            """
import numpy as np

def packed_inputs(labels, start, end):
    return np.where(labels == -100, end, labels)
""",
            "Input and label are the same, so copying is the whole task: the inputs "
            "must be moved by one.",
        ),
        Wrong(
            "moved-left",
            """
import numpy as np

def packed_inputs(labels, start, end):
    moved = np.concatenate([labels[:, 1:], np.full_like(labels[:, :1], start)], axis=1)
    return np.where(labels == -100, end, np.where(moved == -100, end, moved))
""",
            "Your inputs are moved to the left: each place would see the token that "
            "comes after its own.",
        ),
        Wrong(
            "rolled-around",
            _PACKED.replace(
                "np.full_like(labels[:, :1], start)", "labels[:, -1:]"
            ).replace("    moved = np.where(moved == end, start, moved)\n", ""),
            "The last label of the row has come around to the front, where a START "
            "belongs.",
        ),
        Wrong(
            "end-left-in",
            _PACKED.replace("    moved = np.where(moved == end, start, moved)\n", ""),
            "Right for a row of one text; a text that follows another must begin with "
            "a START of its own, and not with the END before it.",
        ),
        Wrong(
            "pads-left-in",
            _PACKED.replace("np.where(labels == -100, end, moved)", "moved"),
            "The pads' own inputs are not set: -100 is the number of no token.",
        ),
        Wrong(
            "pads-by-the-moved-row",
            """
import numpy as np

def packed_inputs(labels, start, end):
    moved = np.concatenate([np.full_like(labels[:, :1], start), labels[:, :-1]], axis=1)
    return np.where(moved == -100, end, np.where(moved == end, start, moved))
""",
            "Right but for the first pad of a row: your function looks for pads in the "
            "moved row, where each stands one place late. The label tells.",
        ),
        Wrong(
            "start-on-pads",
            _PACKED.replace(
                "np.where(labels == -100, end, moved)",
                "np.where(labels == -100, start, moved)",
            ),
            "Pads get a START, as if texts began there; their input should be END.",
        ),
        Wrong(
            "start-at-the-end",
            """
import numpy as np

def packed_inputs(labels, start, end):
    moved = np.concatenate([np.full_like(labels[:, :1], start), labels[:, :-1]], axis=1)
    moved = np.where(labels == end, start, moved)
    return np.where(labels == -100, end, moved)
""",
            "START stands where END is to be written; it belongs one place later, "
            "where the next text begins.",
        ),
    ),
)

# --- 04b.5 encoder and decoder in one row ---------------------------------------------


def _prefix_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([1], [1], 1),
        ([1], [2], 2),
        ([0], [2], 3),
        ([2], [2], 3),
        ([2], [4], 5),
    ]
    for texts, tokens in ((2, 4), (2, 5), (3, 5), (3, 6), (2, 7)):
        lengths = rng.integers(3, tokens + 1, texts)
        lengths[0] = tokens - 1
        sources = np.minimum(rng.integers(1, tokens, texts), lengths - 1)
        sources[0] = max(2, tokens - 3)
        cases.append((sources, lengths, tokens))
    return [(np.array(s), np.array(n), tokens) for s, n, tokens in cases]


def _prefix(sources: np.ndarray, lengths: np.ndarray, tokens: int) -> list:
    """List what each word may read."""
    masks = []
    for source, length in zip(sources.tolist(), lengths.tolist(), strict=True):
        mask = [[False] * tokens for _ in range(tokens)]
        for query in range(length):
            readable = range(source) if query < source else range(query + 1)
            for key in readable:
                mask[query][key] = True
        masks.append(mask)
    return masks


# What the wrong answers share; each changes one thing in it.
_PREFIX = """
import numpy as np

def prefix_mask(sources, lengths, tokens):
    place = np.arange(tokens)
    past = place[:, None] >= place[None, :]
    source = place[None, None, :] < sources[:, None, None]
    real = place[None, :] < lengths[:, None]
    return (past | source) & real[:, None, :] & real[:, :, None]
"""

PREFIX = Exercise(
    id="04b.5",
    title="Encoder and decoder in one row",
    points=2,
    idea=(
        "Encoder, decoder and cross-attention are three regions of one mask over one "
        "row."
    ),
    function="prefix_mask",
    cases=_prefix_cases,
    oracle=_prefix,
    hints=(
        "When may a key be read at all? If it is of the source, or if it is not ahead.",
        "Does that let a source word read the target? The target stands behind it.",
        "Then pads: neither query nor key may be one. Give each condition the shape "
        "(batch, query, key).",
    ),
    wrong=(
        Wrong(
            "causal-for-all",
            _PREFIX.replace("(past | source)", "(past | (source & False))"),
            "The source is read from left to right only: it is all there from the "
            "start, so its words may look ahead within it.",
        ),
        Wrong(
            "all-for-all",
            _PREFIX.replace("(past | source)", "(past | True | source)"),
            "Target words can read what is not yet written.",
        ),
        Wrong(
            "target-blind-for-source",
            _PREFIX.replace(
                "(past | source)",
                "((source & source.transpose(0, 2, 1)) | (past & ~source))",
            ),
            "Your target does not read the source, so there would be nothing to "
            "translate from.",
        ),
        Wrong(
            "and-for-or",
            _PREFIX.replace("(past | source)", "(past & source)"),
            "Your function asks for both at once, in the source and not ahead; one of "
            "them is enough.",
        ),
        Wrong(
            "pads-are-read",
            _PREFIX.replace(
                " & real[:, None, :] & real[:, :, None]",
                " & (lengths >= 0)[:, None, None]",
            ),
            "Pads read and are read as if they were target words: the lengths have no "
            "effect yet.",
        ),
        Wrong(
            "pads-read",
            _PREFIX.replace(" & real[:, :, None]", ""),
            "Nobody reads a pad, but pads still read: their rows should be empty, too.",
        ),
        Wrong(
            "length-without-source",
            _PREFIX.replace("< lengths[:, None]", "< (lengths + sources)[:, None]"),
            "Your function adds the source's words to the lengths; a length counts "
            "both already.",
        ),
        Wrong(
            "not-itself",
            _PREFIX.replace(" >= place[None, :]", " > place[None, :]"),
            "A target word may not read itself here; the mask of a writer lets it, "
            "since its input was moved by one.",
        ),
        Wrong(
            "inverted",
            _PREFIX.replace("return (past", "return ~((past").replace(
                "real[:, :, None]\n", "real[:, :, None])\n"
            ),
            "True and False have changed places: True means that the key may be read.",
        ),
    ),
)

# --- 04b.6 nats a token ---------------------------------------------------------------


def _nats_cases(rng: np.random.Generator) -> list[tuple]:
    def batch(texts: int, tokens: int, vocabulary: int, pads: int, size: float = 2.0):
        logits = rng.normal(0, size, (texts, tokens, vocabulary)).round(1) + 0.0
        labels = rng.integers(0, vocabulary, (texts, tokens))
        if pads:
            labels[0, -pads:] = -100
        return logits, labels

    nothing = np.zeros((1, 1, 2)), np.array([[-100]])
    far = np.array([[[1000.0, -1000.0], [0.0, 1000.0]]]), np.array([[0, 0]])
    return [
        ([batch(1, 1, 2, 0)],),
        ([nothing],),
        ([batch(1, 2, 2, 1)],),
        ([batch(1, 1, 3, 0), nothing],),
        ([far],),
        ([(np.array([[[1000.0, 999.0]]]), np.array([[0]]))],),
        ([batch(2, 3, 3, 2)],),
        ([batch(2, 3, 4, 2), batch(1, 2, 4, 1)],),
        ([batch(1, 4, 3, 1), batch(2, 2, 3, 1)],),
        ([batch(2, 4, 5, 3), batch(1, 1, 5, 0), batch(2, 2, 5, 1)],),
    ]


def _nats(batches: list) -> float:
    """Token by token, in numbers that no exponential overflows."""
    losses = []
    for logits, labels in batches:
        for text, tokens in enumerate(labels.tolist()):
            for place, label in enumerate(tokens):
                if label != -100:
                    row = [Decimal(x) for x in logits[text, place].tolist()]
                    total = sum((x - row[label]).exp() for x in row)
                    losses.append(float(total.ln()))
    return math.fsum(losses) / len(losses) if losses else 0.0


# What the wrong answers share; each changes one thing in it.
_NATS = """
import numpy as np

def nats_per_token(batches):
    total, count = 0.0, 0
    for logits, labels in batches:
        top = logits.max(axis=-1, keepdims=True)
        log_p = logits - top
        log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
        real = labels != -100
        safe = np.where(real, labels, 0)
        losses = -np.take_along_axis(log_p, safe[..., None], axis=-1)[..., 0]
        total += float((losses * real).sum())
        count += int(real.sum())
    return total / count if count else 0.0
"""

NATS = Exercise(
    id="04b.6",
    title="Nats a token, over batches",
    points=2,
    idea="Sum over all real tokens, divide once: a mean of means weighs unequally.",
    function="nats_per_token",
    cases=_nats_cases,
    oracle=_nats,
    tolerance=1e-5,
    hints=(
        "Keep two numbers over all batches, the sum of the losses and how many tokens "
        "it has; divide once, at the end.",
        "log p of a label is its logit, less the logarithm of the sum of all e^logit "
        "of the place; subtract the largest logit first.",
        "Leave pads out before you look anything up: -100 would count from the end.",
    ),
    wrong=(
        Wrong(
            "mean-of-batches",
            _NATS.replace("total, count = 0.0, 0", "total, count = [], 0")
            .replace(
                "total += float((losses * real).sum())",
                "total += [float((losses * real).sum() / real.sum())] * real.any()",
            )
            .replace("total / count if count", "sum(total) / len(total) if total"),
            "Your function takes the mean of the batches' means, so a token of a small "
            "batch counts more: divide once, at the end.",
        ),
        Wrong(
            "mean-of-texts",
            _NATS.replace("total, count = 0.0, 0", "total, count = [], 0")
            .replace(
                "total += float((losses * real).sum())",
                "total += [x[r].mean() for x, r in zip(losses, real) if r.any()]",
            )
            .replace("total / count if count", "sum(total) / len(total) if total"),
            "Your function takes the mean of the texts' means, so a token of a short "
            "text counts more.",
        ),
        Wrong(
            "pads-counted",
            _NATS.replace("real = labels != -100", "real = labels > -1000").replace(
                "np.where(real, labels, 0)", "np.maximum(labels, 0)"
            ),
            "Pads count as if their label were 0: they should be in neither the sum "
            "nor the number of tokens.",
        ),
        Wrong(
            "divided-by-all-places",
            _NATS.replace("int(real.sum())", "real.size"),
            "The pads are out of the sum, but the division still counts them, which "
            "makes the loss look better than it is.",
        ),
        Wrong(
            "summed",
            _NATS.replace("total / count if count else 0.0", "total"),
            "This is the sum over the tokens, and grows with the test set: asked for "
            "is the mean.",
        ),
        Wrong(
            "bits",
            _NATS.replace("total / count if", "total / count / np.log(2) if"),
            "These are bits, from a logarithm to base 2; nats take the natural one.",
        ),
        Wrong(
            "probability-not-log",
            _NATS.replace("losses = -np.take", "losses = 1 - np.exp(np.take").replace(
                "axis=-1)[..., 0]", "axis=-1))[..., 0]"
            ),
            "Your function averages how far the right probability is from 1; the "
            "likelihood of a text is a product, so its logarithms add up.",
        ),
        Wrong(
            "overflow",
            _NATS.replace(
                "log_p = logits - top\n",
                'log_p = logits - 0 * top\n        np.seterr(all="ignore")\n',
            ),
            "Right for moderate logits, but e to the 1000 is beyond any float: "
            "subtract the largest logit first.",
        ),
        Wrong(
            "log-of-a-rounded-weight",
            _NATS.replace(
                "log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))",
                "np.exp(log_p) / np.exp(log_p).sum(axis=-1, keepdims=True)",
            ).replace(
                "losses = -np.take_along_axis(log_p, safe[..., None], axis=-1)[..., 0]",
                "p = np.take_along_axis(log_p, safe[..., None], axis=-1)[..., 0]\n"
                '        with np.errstate(divide="ignore"):\n'
                "            losses = -np.log(np.where(real, p, 1.0))",
            ),
            "A weight can be so small that it is rounded to 0, whose logarithm is "
            "minus infinity: take log p from the logits, not from the softmax.",
        ),
        Wrong(
            "log-of-the-softmax",
            _NATS.replace("log_p = logits - top\n", "log_p = np.exp(logits)\n")
            .replace(
                "log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))",
                "np.log(log_p / log_p.sum(axis=-1, keepdims=True))",
            )
            .replace(
                "import numpy as np\n",
                'import numpy as np\n\nnp.seterr(all="ignore")\n',
            ),
            "Right for moderate logits; with large ones your softmax is infinity by "
            "infinity. Take log p from the logits, less the largest one.",
        ),
        Wrong(
            "no-token-no-number",
            _NATS.replace(
                "total / count if count else 0.0", "total / count if count else np.nan"
            ),
            "Without a single real token your function gives no number; 0.0 is asked "
            "for.",
        ),
    ),
)

# --- 04b.7 two halves of a softmax ----------------------------------------------------


def _halves_cases(rng: np.random.Generator) -> list[tuple]:
    def half(logs: list[float], d_value: int = 1) -> tuple[np.ndarray, np.ndarray]:
        output = rng.integers(-9, 10, (len(logs), d_value)).astype(float)
        output[np.isneginf(logs)] = 0.0
        return np.array(logs), output

    nothing = -math.inf
    cases = [
        (half([0.0]), half([0.0])),
        (half([0.0]), half([2.0])),
        (half([1.0]), half([nothing])),
        (half([nothing]), half([-3.0])),
        (half([nothing]), half([nothing])),
        (half([1000.0]), half([999.0])),
        (half([-1000.0]), half([-998.0])),
    ]
    for queries, d_value in ((2, 2), (3, 2), (3, 3), (4, 2)):
        logs = rng.normal(0, 2, (2, queries)).round(1) + 0.0
        if queries > 2:
            logs[0, 0] = nothing
        cases.append((half(logs[0].tolist(), d_value), half(logs[1].tolist(), d_value)))
    return cases


def _halves(first: tuple, second: tuple) -> tuple[list, list]:
    """Go back to the sums themselves, in numbers that no exponential overflows."""
    logs, outputs = [], []
    for a, x, b, y in zip(*first, *second, strict=True):
        masses = [
            Decimal(0) if np.isneginf(z) else Decimal(float(z)).exp() for z in (a, b)
        ]
        total = sum(masses)
        if total == 0:
            logs.append(-math.inf)
            outputs.append([0.0] * len(x))
            continue
        logs.append(float(total.ln()))
        parts = [float(mass / total) for mass in masses]
        pairs = zip(x.tolist(), y.tolist(), strict=True)
        outputs.append([parts[0] * p + parts[1] * q for p, q in pairs])
    return logs, outputs


# What the wrong answers share; each changes one thing in it.
_HALVES = """
import numpy as np

def merge_halves(first, second):
    np.seterr(all="ignore")
    (a, x), (b, y) = first, second
    top = np.maximum(a, b)
    base = np.where(np.isneginf(top), 0.0, top)
    p, q = np.exp(a - base), np.exp(b - base)
    total = p + q
    log_total = base + np.log(total)
    safe = np.where(total > 0, total, 1.0)[:, None]
    return log_total, (p[:, None] * x + q[:, None] * y) / safe
"""

HALVES = Exercise(
    id="04b.7",
    title="Two halves of a softmax",
    points=3,
    idea=(
        "A partial softmax is its total and its blend; totals add up, and blends mix "
        "in the ratio of the totals."
    ),
    function="merge_halves",
    cases=_halves_cases,
    oracle=_halves,
    tolerance=1e-5,
    hints=(
        "The totals themselves add up. Which share of the new total does each half "
        "bring?",
        "A share is e^(log_total of the half, less log_total of both): no large "
        "exponential is needed.",
        "Only where both halves are minus infinity is a difference without a value: "
        "put 0 in the place of the common log_total there.",
    ),
    wrong=(
        Wrong(
            "plain-mean",
            _HALVES.replace("(p[:, None] * x + q[:, None] * y) / safe", "(x + y) / 2"),
            "Both halves count alike, but a half with the better fitting keys has more "
            "to say: mix in the ratio of the totals.",
        ),
        Wrong(
            "sum-of-outputs",
            _HALVES.replace("(p[:, None] * x + q[:, None] * y) / safe", "x + y"),
            "The outputs are added as they are; each was divided by its own total, and "
            "together their weights would add up to 2.",
        ),
        Wrong(
            "logs-as-weights",
            _HALVES.replace(
                "(p[:, None] * x + q[:, None] * y) / safe",
                "np.nan_to_num((a[:, None] * x + b[:, None] * y) / (a + b)[:, None])",
            ),
            "Your function mixes in the ratio of the logarithms; it is the totals "
            "themselves that weigh.",
        ),
        Wrong(
            "logs-added",
            _HALVES.replace("base + np.log(total)", "a + b"),
            "The output is right, but adding logarithms multiplies the totals: here "
            "they add up.",
        ),
        Wrong(
            "larger-log-kept",
            _HALVES.replace("base + np.log(total)", "top"),
            "The output is right, but the new log_total is only the larger of the two, "
            "so that a third half would be weighed wrongly.",
        ),
        Wrong(
            "winner-takes-all",
            _HALVES.replace(
                "(p[:, None] * x + q[:, None] * y) / safe",
                "np.where((a >= b)[:, None], x, y)",
            ),
            "The half with the larger total takes all; the other one keeps its share.",
        ),
        Wrong(
            "crossed",
            _HALVES.replace(
                "p[:, None] * x + q[:, None] * y", "q[:, None] * x + p[:, None] * y"
            ),
            "Each output is weighed with the total of the other half.",
        ),
        Wrong(
            "already-divided-forgotten",
            _HALVES.replace(
                "p[:, None] * x + q[:, None] * y) / safe",
                "x * p[:, None] + y * q[:, None])",
            ),
            "The blend is not divided by the common total: its weights do not add up "
            "to 1.",
        ),
        Wrong(
            "two-empty-halves",
            _HALVES.replace("np.where(np.isneginf(top), 0.0, top)", "top"),
            "Where both halves were allowed nothing, infinity is subtracted from "
            "infinity, which gives no number.",
        ),
        Wrong(
            "overflow",
            _HALVES.replace(
                "np.where(np.isneginf(top), 0.0, top)",
                "0.0 * np.where(np.isneginf(top), 0.0, top)",
            ),
            "Right for moderate totals, but e to the 1000 is beyond any float: "
            "subtract the larger logarithm first.",
        ),
        Wrong(
            "plain-exponentials",
            """
import numpy as np

def merge_halves(first, second):
    np.seterr(all="ignore")
    (a, x), (b, y) = first, second
    p, q = np.exp(a), np.exp(b)
    return np.log(p + q), (p[:, None] * x + q[:, None] * y) / (p + q)[:, None]
""",
            "Your function goes back to the sums themselves: e to the 1000 is beyond "
            "any float, and two empty halves divide 0 by 0.",
        ),
        Wrong(
            "two-empty-blends",
            """
import numpy as np

def merge_halves(first, second):
    np.seterr(all="ignore")
    (a, x), (b, y) = first, second
    both = np.logaddexp(a, b)
    return both, np.exp(a - both)[:, None] * x + np.exp(b - both)[:, None] * y
""",
            "The log_total is right everywhere, the output not where both halves were "
            "allowed nothing: infinity less infinity is no number.",
        ),
    ),
)

# --- 04b.8 where the square takes over ------------------------------------------------


def _square_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        (1, 1, 1, False),
        (1, 1, 1, True),
        (2, 8, 2, False),
        (2, 8, 2, True),
        (4, 16, 2, False),
    ]
    for causal in (False, True, False, True):
        d_key = int(rng.integers(2, 8))
        d_model = d_key * int(rng.integers(2, 5))
        cases.append((d_model, int(rng.integers(3, 60)), d_key, causal))
    return cases


def _square(d_model: int, d_inner: int, d_key: int, causal: bool) -> int:
    """Try one length after the other, matrix by matrix."""
    matrices = [(d_model, d_model)] * 2 + [(d_model, d_key)] * 2
    matrices += [(d_model, d_inner), (d_inner, d_model)]
    words = 0
    while True:
        words += 1
        rest = sum(words * rows * columns for rows, columns in matrices)
        pairs = sum(query + 1 if causal else words for query in range(words))
        if Fraction(2 * d_model * pairs, rest) > 1:
            return words


# What the wrong answers share; each changes one thing in it.
_SQUARE = """
def first_quadratic(d_model, d_inner, d_key, causal):
    n = 0
    while True:
        n += 1
        rest = n * (2 * d_model**2 + 2 * d_model * d_key + 2 * d_model * d_inner)
        pairs = n * (n + 1) // 2 if causal else n * n
        if 2 * d_model * pairs > rest:
            return n
"""

SQUARE = Exercise(
    id="04b.8",
    title="Where the square takes over",
    points=2,
    idea=(
        "A block's length-dependent parts cross at a length as large as its widths "
        "together, and twice that if it is causal."
    ),
    function="first_quadratic",
    cases=_square_cases,
    oracle=_square,
    hints=(
        "Count a word's matrices first: queries, keys, values, output, and the two of "
        "the feed-forward net.",
        "How many pairs are there for n words, all of them or the lower triangle with "
        "its diagonal?",
        "Divide both sides by 2 · n · d_model. Or try lengths in turn: more, not as "
        "many.",
    ),
    wrong=(
        Wrong(
            "feed-forward-forgotten",
            _SQUARE.replace(" + 2 * d_model * d_inner)", " + 0 * d_inner)"),
            "Your function compares with the projections alone; the feed-forward net "
            "belongs to the rest as well.",
        ),
        Wrong(
            "keys-as-wide-as-queries",
            _SQUARE.replace("2 * d_model * d_key", "2 * d_model * d_model"),
            "Keys and values are counted as wide as the states; here they are only "
            "d_key wide.",
        ),
        Wrong(
            "values-forgotten",
            _SQUARE.replace("2 * d_model * d_key", "d_model * d_key"),
            "One of the two narrow projections is missing: both keys and values have "
            "one.",
        ),
        Wrong(
            "scores-only",
            _SQUARE.replace("2 * d_model * pairs", "d_model * pairs"),
            "Only the scores are counted; blending the values takes as many "
            "multiplications again.",
        ),
        Wrong(
            "causal-ignored",
            _SQUARE.replace("n * (n + 1) // 2 if causal else n * n", "n * n"),
            "Right without a causal mask; with it only half of the pairs, and the "
            "diagonal, are computed.",
        ),
        Wrong(
            "diagonal-forgotten",
            _SQUARE.replace("n * (n + 1) // 2", "n * (n - 1) // 2"),
            "A word reads itself, too: the triangle has its diagonal.",
        ),
        Wrong(
            "half-of-the-square",
            _SQUARE.replace("n * (n + 1) // 2", "n * n / 2"),
            "Your triangle is half of the square; with its whole diagonal it is "
            "n/2 pairs larger.",
        ),
        Wrong(
            "as-many",
            _SQUARE.replace("pairs > rest", "pairs >= rest"),
            "Your function stops where both are equal; asked for is the first length "
            "with more.",
        ),
        Wrong(
            "narrow-pairs",
            _SQUARE.replace("2 * d_model * pairs", "2 * d_key * pairs"),
            "Shared keys save projections and memory, but each head still compares and "
            "blends for itself: a pair costs d_model twice.",
        ),
    ),
)

EXERCISES = [NORM, BLOCK, CREDIT, PACKED, PREFIX, NATS, HALVES, SQUARE]
