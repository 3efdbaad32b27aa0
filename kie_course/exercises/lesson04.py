"""Exercises of lesson 04: heads, masks, positions."""

from __future__ import annotations

import cmath
import math
from decimal import Decimal

import numpy as np

from kie_course.exercises import Exercise, Wrong

# --- 04.1 shared keys -----------------------------------------------------------------


def _share_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for batch, tokens, d_head, heads, groups in (
        (1, 1, 1, 1, 1),
        (1, 1, 1, 2, 1),
        (1, 2, 1, 2, 2),
        (1, 2, 2, 2, 1),
        (1, 2, 2, 4, 2),
        (1, 3, 2, 4, 2),
        (2, 2, 2, 6, 3),
        (2, 3, 3, 6, 2),
        (2, 3, 2, 4, 4),
    ):
        shape = (batch, tokens, groups * d_head)
        cases.append((rng.integers(-9, 10, shape).astype(float), heads, groups))
    return cases


def _share(states: np.ndarray, num_heads: int, num_groups: int) -> np.ndarray:
    """Fetch each number of the result from its place, one by one."""
    batch, tokens, width = states.shape
    d_head = width // num_groups
    shared = np.zeros((batch, num_heads, tokens, d_head))
    for text, head, token, feature in np.ndindex(shared.shape):
        group = head * num_groups // num_heads
        place = group * d_head + feature
        shared[text, head, token, feature] = states[text, token, place]
    return shared


SHARE = Exercise(
    id="04.1",
    title="Heads that share their keys",
    points=2,
    idea="A head is a slice of the features, cut word by word; slices can be shared.",
    function="share_keys",
    cases=_share_cases,
    oracle=_share,
    hints=(
        "First forget the sharing: cut the features into num_groups slices, as "
        "split_heads does.",
        "Which axis must go where, so that a group holds all tokens and not a part of "
        "them?",
        "Then each group is needed several times in a row: np.repeat and np.tile "
        "differ in just that.",
    ),
    wrong=(
        Wrong(
            "view-without-transpose",
            """
def share_keys(states, num_heads, num_groups):
    batch, tokens, width = states.shape
    groups = states.reshape(batch, num_groups, tokens, width // num_groups)
    return groups.repeat(num_heads // num_groups, axis=1)
""",
            "The shape is right and the content is not: reading the numbers in a new "
            "shape mixes features with tokens, where an axis has to change places.",
        ),
        Wrong(
            "dealt-out-in-turn",
            """
import numpy as np

def share_keys(states, num_heads, num_groups):
    batch, tokens, width = states.shape
    groups = states.reshape(batch, tokens, num_groups, width // num_groups)
    groups = groups.transpose(0, 2, 1, 3)
    return np.tile(groups, (1, num_heads // num_groups, 1, 1))
""",
            "Your function deals the groups out in turn (0, 1, 0, 1); neighbouring "
            "heads should share a group (0, 0, 1, 1).",
        ),
        Wrong(
            "every-other-feature",
            """
def share_keys(states, num_heads, num_groups):
    batch, tokens, width = states.shape
    groups = states.reshape(batch, tokens, width // num_groups, num_groups)
    return groups.transpose(0, 3, 1, 2).repeat(num_heads // num_groups, axis=1)
""",
            "Your function gives a group features that stand apart; a group is a block "
            "of neighbouring features.",
        ),
        Wrong(
            "not-shared",
            """
def share_keys(states, num_heads, num_groups):
    batch, tokens, width = states.shape
    groups = states.reshape(batch, tokens, num_groups, width // num_groups)
    return groups.transpose(0, 2, 1, 3)
""",
            "The groups are right, but there are fewer of them than heads: each head "
            "needs keys to read.",
        ),
        Wrong(
            "cut-by-heads",
            """
def share_keys(states, num_heads, num_groups):
    batch, tokens, width = states.shape
    heads = states.reshape(batch, tokens, num_heads, width // num_heads)
    return heads.transpose(0, 2, 1, 3)
""",
            "The features are cut into as many slices as there are heads; with shared "
            "keys there are only as many slices as groups.",
        ),
        Wrong(
            "heads-behind-tokens",
            """
def share_keys(states, num_heads, num_groups):
    batch, tokens, width = states.shape
    groups = states.reshape(batch, tokens, num_groups, width // num_groups)
    return groups.repeat(num_heads // num_groups, axis=2)
""",
            "Your function leaves the heads behind the tokens; a product of matrices "
            "works on the last two axes, so these must be token and feature.",
        ),
    ),
)

# --- 04.2 a head's share --------------------------------------------------------------


def _shares_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for heads, tokens, d_head, d_model in (
        (1, 1, 1, 1),
        (2, 1, 1, 2),
        (2, 1, 2, 4),
        (2, 2, 2, 4),
        (2, 2, 2, 3),
        (3, 2, 2, 6),
        (3, 1, 2, 5),
        (2, 3, 3, 6),
        (4, 2, 2, 8),
    ):
        outputs = rng.integers(-4, 5, (heads, tokens, d_head)).astype(float)
        weight = rng.integers(-4, 5, (heads * d_head, d_model)).astype(float)
        cases.append((outputs, weight))
    return cases


def _shares(outputs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Silence all heads but one, merge, and multiply by the whole matrix."""
    shares = []
    for head in range(len(outputs)):
        alone = np.zeros_like(outputs)
        alone[head] = outputs[head]
        merged = [np.concatenate(list(alone[:, t])) for t in range(outputs.shape[1])]
        shares.append(np.stack(merged) @ weight)
    return np.stack(shares)


SHARES = Exercise(
    id="04.2",
    title="What one head adds",
    points=2,
    idea="Merging and mixing is a sum over heads: each head adds a part of its own.",
    function="head_shares",
    cases=_shares_cases,
    oracle=_shares,
    hints=(
        "What would come out if the outputs of all other heads were zero?",
        "A merged row times the matrix: the first d_head rows of the matrix meet the "
        "first head only.",
        "Cut the matrix into one block of rows a head; each block is (d_head, "
        "d_model).",
    ),
    wrong=(
        Wrong(
            "whole-output",
            """
def head_shares(outputs, weight):
    heads, tokens, d_head = outputs.shape
    return outputs.transpose(1, 0, 2).reshape(tokens, -1) @ weight
""",
            "This is the output of all heads together; asked for are the parts that "
            "add up to it.",
        ),
        Wrong(
            "equal-parts",
            """
import numpy as np

def head_shares(outputs, weight):
    heads, tokens, d_head = outputs.shape
    whole = outputs.transpose(1, 0, 2).reshape(tokens, -1) @ weight
    return np.stack([whole / heads] * heads)
""",
            "The output is cut into equal parts, whatever each head did; a silent head "
            "should add nothing.",
        ),
        Wrong(
            "same-block-for-all",
            """
import numpy as np

def head_shares(outputs, weight):
    heads, tokens, d_head = outputs.shape
    return np.stack([outputs[h] @ weight[:d_head] for h in range(heads)])
""",
            "Every head meets the same rows of the matrix; after merging, each head "
            "stands in a place of its own.",
        ),
        Wrong(
            "rows-dealt-out",
            """
import numpy as np

def head_shares(outputs, weight):
    heads, tokens, d_head = outputs.shape
    return np.stack([outputs[h] @ weight[h::heads] for h in range(heads)])
""",
            "Your function deals the matrix's rows out in turn; a head's features "
            "stand next to each other in the merged row.",
        ),
        Wrong(
            "columns-for-rows",
            """
import numpy as np

def head_shares(outputs, weight):
    heads, tokens, d_head = outputs.shape
    blocks = weight.T[: heads * d_head].reshape(heads, d_head, -1)
    return np.stack([outputs[h] @ blocks[h] for h in range(heads)])
""",
            "The matrix is used on its side: its rows, not its columns, meet the "
            "features of the heads.",
        ),
        Wrong(
            "last-head-first",
            """
import numpy as np

def head_shares(outputs, weight):
    heads, tokens, d_head = outputs.shape
    blocks = weight.reshape(heads, d_head, -1)[::-1]
    return np.stack([outputs[h] @ blocks[h] for h in range(heads)])
""",
            "The heads meet the blocks of the matrix in the reverse order.",
        ),
    ),
)

# --- 04.3 the mask of a decoder -------------------------------------------------------


def _mask_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([1], 1, 1),
        ([0], 1, 1),
        ([1], 2, 1),
        ([2], 2, 2),
        ([2], 3, 2),
        ([3, 1], 3, 2),
        ([0, 4], 4, 3),
    ]
    for texts, tokens in ((2, 4), (2, 5), (3, 5), (3, 6)):
        lengths = rng.integers(1, tokens, texts)
        lengths[0] = tokens - 1  # one pad, and words enough for the window
        cases.append((lengths, tokens, int(rng.integers(2, tokens - 1))))
    return [(np.array(lengths), tokens, window) for lengths, tokens, window in cases]


def _mask(lengths: np.ndarray, tokens: int, window: int) -> list:
    """List the pairs that may, then look each pair up."""
    masks = []
    for length in lengths.tolist():
        real, pairs = list(range(tokens - length, tokens)), set()
        for number, query in enumerate(real):
            for key in real[max(0, number - window + 1) : number + 1]:
                pairs.add((query, key))
        square = range(tokens)
        masks.append([[(query, key) in pairs for key in square] for query in square])
    return masks


# What the wrong answers share; each changes one thing in it.
_MASK = """
import numpy as np

def reading_mask(lengths, tokens, window):
    place = np.arange(tokens)
    back = place[:, None] - place[None, :]
    near = (back >= 0) & (back < window)
    real = place[None, :] >= tokens - lengths[:, None]
    return near & real[:, None, :] & real[:, :, None]
"""

MASK = Exercise(
    id="04.3",
    title="Padding, past and window together",
    points=2,
    idea="Masks are conditions on a pair (query, key), and conditions combine by and.",
    function="reading_mask",
    cases=_mask_cases,
    oracle=_mask,
    hints=(
        "Three conditions on a pair: the key is no pad, the key is not ahead, the key "
        "is near enough.",
        "Write query place minus key place as a (query, key) table: two of the "
        "conditions are comparisons with it.",
        "Pads stand in front: a place is real from tokens - length on. Then give each "
        "condition the shape (batch, query, key) by axes of size 1.",
    ),
    wrong=(
        Wrong(
            "padding-behind",
            _MASK.replace(">= tokens - lengths[:, None]", "< lengths[:, None]"),
            "Your function takes the last places for pads; here the padding stands in "
            "front of the text.",
        ),
        Wrong(
            "future-for-past",
            _MASK.replace(
                "(back >= 0) & (back < window)", "(back <= 0) & (-back < window)"
            ),
            "A word reads what comes after it here, and not what came before: the "
            "triangle is on the wrong side.",
        ),
        Wrong(
            "future-too",
            _MASK.replace("(back >= 0) & (back < window)", "abs(back) < window"),
            "The window reaches to both sides: a word could read the future.",
        ),
        Wrong(
            "no-window",
            _MASK.replace("(back >= 0) & (back < window)", "back >= 0"),
            "All of the past may be read: the window has no effect yet.",
        ),
        Wrong(
            "window-one-too-long",
            _MASK.replace("back < window", "back <= window"),
            "One word too many may be read: the window counts the word itself.",
        ),
        Wrong(
            "not-itself",
            _MASK.replace("back >= 0", "back > 0"),
            "A word may not read itself here, so that the first word has nothing to "
            "read at all.",
        ),
        Wrong(
            "rows-for-columns",
            _MASK.replace("real[:, None, :] & ", ""),
            "The pads' own rows are blocked, but the words still read the pads: it is "
            "the key that must be real.",
        ),
        Wrong(
            "padding-forgotten",
            _MASK.replace(
                " & real[:, None, :] & real[:, :, None]",
                " & (lengths >= 0)[:, None, None]",
            ),
            "Pads may be read as if they were words: the lengths have no effect yet.",
        ),
        Wrong(
            "inverted",
            _MASK.replace("return near", "return ~(near").replace(
                "real[:, :, None]\n", "real[:, :, None])\n"
            ),
            "True and False have changed places: True means that the key may be read.",
        ),
    ),
)

# --- 04.4 softmax with a way out ------------------------------------------------------


def _rest_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([[0.0]], [[True]]),
        ([[2.0]], [[False]]),
        ([[1.0, 2.0]], [[True, True]]),
        ([[1.0, 2.0]], [[True, False]]),
        ([[0.5, 1.0], [3.0, -2.0]], [[True, True], [False, False]]),
        ([[1000.0, 999.0]], [[True, True]]),
        ([[-1000.0, -1001.0]], [[True, True]]),
        ([[1000.0, 1.0]], [[False, True]]),
    ]
    for queries, keys in ((2, 3), (3, 3), (3, 4), (4, 3)):
        scores = rng.normal(0, 1.5, (queries, keys)).round(1) + 0.0
        mask = rng.random((queries, keys)) < 0.6
        mask[0, :2] = True, False
        cases.append((scores, mask))
    return [(np.array(scores), np.array(mask)) for scores, mask in cases]


def _rest(scores: np.ndarray, mask: np.ndarray) -> list:
    """e^score / (1 + sum of e^score), in numbers that no exponential overflows."""
    rows = []
    for row, allowed in zip(scores.tolist(), mask.tolist(), strict=True):
        raw = [
            Decimal(score).exp() if may else Decimal(0)
            for score, may in zip(row, allowed, strict=True)
        ]
        rows.append([float(part / (1 + sum(raw))) for part in raw])
    return rows


# What the wrong answers share; each changes one thing in it.
_REST = """
import numpy as np

def weights_with_rest(scores, mask):
    with np.errstate(all="ignore"):
        kept = np.where(mask, scores, -np.inf)
        top = np.maximum(kept.max(axis=-1, keepdims=True), 0.0)
        raw = np.exp(kept - top)
        rest = np.exp(-top)
        return raw / (raw.sum(axis=-1, keepdims=True) + rest)
"""

REST = Exercise(
    id="04.4",
    title="A softmax that may read nothing",
    points=3,
    idea=(
        "An empty key takes the weight that nobody else deserves, and a row without "
        "allowed keys needs no special case."
    ),
    function="weights_with_rest",
    cases=_rest_cases,
    oracle=_rest,
    tolerance=1e-5,
    hints=(
        "Imagine one more column of scores, all zero and always allowed; its weight is "
        "left out of the result.",
        "e to the 0 is 1: so the denominator is 1 plus the usual sum. What is the "
        "denominator of a row in which nothing is allowed?",
        "Against overflow, subtract the largest score of the row, the empty key's 0 "
        "included; and subtract it from that 0 as well.",
    ),
    wrong=(
        Wrong(
            "no-rest",
            """
import numpy as np

def weights_with_rest(scores, mask):
    kept = np.where(mask, scores, -np.inf)
    top = kept.max(axis=-1, keepdims=True)
    raw = np.exp(kept - np.where(np.isfinite(top), top, 0.0))
    total = raw.sum(axis=-1, keepdims=True)
    return raw / np.where(total > 0, total, 1.0)
""",
            "The weights add up to 1, so nothing is left for the empty key, which "
            "competes as well.",
        ),
        Wrong(
            "rest-not-shifted",
            _REST.replace("np.exp(-top)", "1.0"),
            "The largest score is subtracted from every score but that of the empty "
            "key: its 0 must move with the others.",
        ),
        Wrong(
            "mask-after-softmax",
            _REST.replace("np.where(mask, scores, -np.inf)", "scores").replace(
                "+ rest)", "+ rest) * mask"
            ),
            "Forbidden keys are removed after the division, so they still take their "
            "share of the denominator.",
        ),
        Wrong(
            "zero-for-minus-infinity",
            _REST.replace("-np.inf", "0.0"),
            "A forbidden key with score 0 still gets weight, since e to the 0 is 1.",
        ),
        Wrong(
            "inverted",
            _REST.replace("np.where(mask", "np.where(~mask"),
            "Your function reads just the forbidden keys: True means allowed.",
        ),
        Wrong(
            "over-queries",
            _REST.replace("axis=-1", "axis=0"),
            "The keys of one query compete, and each row stands for itself; here the "
            "queries compete for a key.",
        ),
        Wrong(
            "rest-returned",
            _REST.replace(
                "return raw / (raw.sum(axis=-1, keepdims=True) + rest)",
                "raw = np.concatenate([raw, rest], axis=-1)\n"
                "        return raw / raw.sum(axis=-1, keepdims=True)",
            ),
            "The empty key has a column of its own in your result; only the weights of "
            "real keys are asked for.",
        ),
        Wrong(
            "empty-row-nan",
            _REST.replace(
                "np.maximum(kept.max(axis=-1, keepdims=True), 0.0)",
                "kept.max(axis=-1, keepdims=True)",
            ),
            "In a row where all is forbidden the largest score is minus infinity, and "
            "infinity minus infinity is no number: the empty key's 0 belongs to the "
            "scores of which the largest is sought.",
        ),
        Wrong(
            "rest-left-alone",
            _REST.replace(
                "np.maximum(kept.max(axis=-1, keepdims=True), 0.0)",
                "kept.max(axis=-1, keepdims=True)",
            ).replace("np.exp(-top)", "1.0"),
            "Your shift leaves the empty key out: its 0 belongs to the scores of which "
            "the largest is sought, and it moves with them.",
        ),
        Wrong(
            "overflow",
            _REST.replace("np.maximum(kept.max(axis=-1, keepdims=True), 0.0)", "0.0"),
            "Right for moderate scores, but e to the 1000 is beyond any float: a "
            "softmax depends on differences of scores only.",
        ),
    ),
)

# --- 04.5 a blank page ----------------------------------------------------------------


def _heads_cases(rng: np.random.Generator) -> list[tuple]:
    cases = []
    for queries, keys, d_head, heads in (
        (1, 1, 1, 1),
        (1, 2, 2, 1),
        (1, 2, 2, 2),
        (2, 3, 2, 2),
        (3, 2, 2, 2),
        (2, 4, 3, 2),
        (3, 4, 2, 3),
        (4, 3, 4, 2),
        (3, 5, 2, 3),
    ):
        d_model = d_head * heads
        drawn = [
            rng.normal(0, 1.5, (n, d_model)).round(1) + 0.0
            for n in (queries, keys, keys)
        ]
        mask = rng.random((heads, queries, keys)) < 0.7
        mask[0, 0, 0] = True
        mask[-1, -1] = len(cases) % 3 > 0  # in some, a row with nothing to read
        cases.append((*drawn, mask, heads))
    return cases


def _heads(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray,
    num_heads: int,
) -> np.ndarray:
    """One query, one head, one key at a time; no exponential of a score itself."""
    d_head = query.shape[1] // num_heads
    output = np.zeros(query.shape)
    for head in range(num_heads):
        part = slice(head * d_head, (head + 1) * d_head)
        for i in range(len(query)):
            allowed = [j for j in range(len(key)) if mask[head, i, j]]
            score = {
                j: math.fsum(query[i, part] * key[j, part]) / math.sqrt(d_head)
                for j in allowed
            }
            for j in allowed:
                weight = 1 / sum(math.exp(score[k] - score[j]) for k in allowed)
                output[i, part] += weight * value[j, part]
    return output


# What the wrong answers share; each changes one thing in it.
_HEADS = """
import numpy as np

def multi_head(query, key, value, mask, num_heads):
    def split(states):
        return states.reshape(len(states), num_heads, -1).transpose(1, 0, 2)
    q, k, v = split(query), split(key), split(value)
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    scores = np.where(mask, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    raw = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = raw.sum(axis=-1, keepdims=True)
    weights = raw / np.where(total > 0, total, 1.0)
    output = (weights @ v).transpose(1, 0, 2)
    return output.reshape(len(query), -1)
"""

HEADS = Exercise(
    id="04.5",
    title="Attention on a blank page",
    points=3,
    idea="Split, score, scale, mask, softmax, blend, merge: each step in its place.",
    function="multi_head",
    cases=_heads_cases,
    oracle=_heads,
    tolerance=1e-4,  # 32-bit floats will do
    hints=(
        "Seven steps in this order: split, score, scale, mask, softmax, blend, merge.",
        "After the split: (heads, query, d_head), (heads, key, d_head) twice; the "
        "scores then have the mask's shape.",
        "A row of the mask without any True: make its weights 0 before they reach the "
        "values, by a total that is never 0.",
    ),
    wrong=(
        Wrong(
            "scaled-by-d-model",
            _HEADS.replace("np.sqrt(q.shape[-1])", "np.sqrt(query.shape[-1])"),
            "The scores are divided by the root of d_model; a head's dot product has "
            "d_head terms only.",
        ),
        Wrong(
            "not-scaled",
            _HEADS.replace(" / np.sqrt(q.shape[-1])", ""),
            "The scores are not scaled: a sum of more terms spreads wider, and the "
            "softmax gets too sharp.",
        ),
        Wrong(
            "divided-by-d",
            _HEADS.replace("np.sqrt(q.shape[-1])", "q.shape[-1]"),
            "The scores are divided by d_head itself; their spread grows with its "
            "root.",
        ),
        Wrong(
            "view-for-split",
            _HEADS.replace(
                "states.reshape(len(states), num_heads, -1).transpose(1, 0, 2)",
                "states.reshape(num_heads, len(states), -1)",
            ),
            "The heads have the right shape but not their own features: a new shape "
            "alone mixes words with features.",
        ),
        Wrong(
            "merged-without-turning-back",
            _HEADS.replace("(weights @ v).transpose(1, 0, 2)", "weights @ v"),
            "The heads are right, but merging forgets to bring each word's heads "
            "together first: a row then holds parts of several words.",
        ),
        Wrong(
            "over-queries",
            _HEADS.replace("axis=-1", "axis=-2"),
            "Your softmax runs over the queries; the keys of one query compete with "
            "each other.",
        ),
        Wrong(
            "one-softmax-for-all-heads",
            _HEADS.replace(
                "    scores = np.where",
                "    scores = np.broadcast_to(scores.sum(axis=0), scores.shape)\n"
                "    scores = np.where",
            ),
            "All heads read with the same scores: a head has a softmax of its own, "
            "which is what several heads are for.",
        ),
        Wrong(
            "same-mask-for-all-heads",
            _HEADS.replace("np.where(mask,", "np.where(mask[:1],"),
            "Every head uses the mask of the first one; here each head has its own.",
        ),
        Wrong(
            "inverted",
            _HEADS.replace("np.where(mask,", "np.where(~mask,"),
            "Your function reads just what is forbidden: True in the mask means "
            "allowed.",
        ),
        Wrong(
            "masked-after-softmax",
            _HEADS.replace("np.where(mask, scores, -np.inf)", "scores + 0.0").replace(
                "    output = (", "    weights = weights * mask\n    output = ("
            ),
            "Forbidden weights are set to 0 after the softmax, so the allowed ones no "
            "longer add up to 1.",
        ),
        Wrong(
            "empty-row-nan",
            _HEADS.replace("np.where(np.isfinite(top), top, 0.0)", "top").replace(
                "    top =", '    np.seterr(all="ignore")\n    top ='
            ),
            "A row in which all is forbidden gives no number here, and one such row "
            "spoils all that follows: it should give zeros.",
        ),
        Wrong(
            "finite-for-minus-infinity",
            _HEADS.replace("-np.inf)", "-1e9)"),
            "Where a head may read nothing, all its scores are equally low in your "
            "function, and equal scores mean equal weights: it should give zeros.",
        ),
        Wrong(
            "keys-and-values-swapped",
            _HEADS.replace("split(key), split(value)", "split(value), split(key)"),
            "Queries are compared with values and the keys are blended: keys are for "
            "finding, values are what is handed over.",
        ),
    ),
)

# --- 04.6 rotary positions ------------------------------------------------------------


def _rotate_cases(rng: np.random.Generator) -> list[tuple]:
    cases: list[tuple] = [
        ([[1.0, 0.0]], [0], 100.0),
        ([[1.0, 0.0]], [1], 100.0),
        ([[0.0, 2.0]], [3], 100.0),
        ([[1.0, 0.0, 1.0, 0.0]], [2], 100.0),
    ]
    for tokens, width in ((1, 4), (2, 4), (3, 4), (2, 6), (3, 6), (4, 8)):
        states = rng.integers(-5, 6, (tokens, width)).astype(float)
        places = np.sort(rng.choice(np.arange(2, 12), tokens, replace=False))
        base = float(rng.choice([10.0, 100.0, 10000.0]))
        cases.append((states, places, base))
    return [(np.array(s), np.array(p), base) for s, p, base in cases]


def _rotate(states: np.ndarray, places: np.ndarray, base: float) -> list:
    """Two features are a complex number; turning is a product."""
    rows = []
    for row, place in zip(states.tolist(), places.tolist(), strict=True):
        turned: list[float] = []
        for pair in range(len(row) // 2):
            angle = place / base ** (2 * pair / len(row))
            point = complex(row[2 * pair], row[2 * pair + 1]) * cmath.exp(1j * angle)
            turned += [point.real, point.imag]
        rows.append(turned)
    return rows


# What the wrong answers share; each changes one thing in it.
_ROTATE = """
import numpy as np

def rotate(states, places, base):
    width = states.shape[1]
    angle = places[:, None] * base ** (-np.arange(0, width, 2) / width)
    a, b = states[:, 0::2], states[:, 1::2]
    turned = np.empty_like(states)
    turned[:, 0::2] = a * np.cos(angle) - b * np.sin(angle)
    turned[:, 1::2] = a * np.sin(angle) + b * np.cos(angle)
    return turned
"""

ROTATE = Exercise(
    id="04.6",
    title="Positions by turning",
    points=2,
    idea=(
        "Turn query and key by their places, and their dot product depends on the "
        "distance alone; lengths stay as they are."
    ),
    function="rotate",
    cases=_rotate_cases,
    oracle=_rotate,
    hints=(
        "First one pair: which 2 × 2 matrix turns a point by an angle, "
        "counter-clockwise?",
        "Then the angles as a (token, pair) table: place times the speed of the pair.",
        "Even features are the pairs' first numbers, odd ones their second: slices "
        "with step 2 read them, and write them back.",
    ),
    wrong=(
        Wrong(
            "halves-paired",
            _ROTATE.replace("states[:, 0::2], states[:, 1::2]", "np.hsplit(states, 2)")
            .replace("turned[:, 0::2]", "turned[:, : width // 2]")
            .replace("turned[:, 1::2]", "turned[:, width // 2 :]"),
            "The first half is paired with the second, as some libraries do; here a "
            "pair is two neighbours.",
        ),
        Wrong(
            "one-speed-for-all",
            _ROTATE.replace(
                " * base ** (-np.arange(0, width, 2) / width)",
                " + 0.0 * states[:, 0::2]",
            ),
            "All pairs turn at the same speed, so places one full turn apart look "
            "alike: each pair has a speed of its own.",
        ),
        Wrong(
            "clockwise",
            _ROTATE.replace("angle = places", "angle = -places"),
            "Your function turns clockwise; distances would still come out right, but "
            "the rule asked for is counter-clockwise.",
        ),
        Wrong(
            "half-the-exponent",
            _ROTATE.replace(
                "np.arange(0, width, 2) / width", "np.arange(width // 2) / width"
            ),
            "The later pairs turn too fast: the exponent counts features (0, 2, 4), "
            "not pairs (0, 1, 2).",
        ),
        Wrong(
            "speeding-up",
            _ROTATE.replace("(-np.arange", "(np.arange"),
            "Your pairs turn faster and faster; the first one should be the fastest.",
        ),
        Wrong(
            "added-not-turned",
            _ROTATE.replace(
                "a * np.cos(angle) - b * np.sin(angle)", "a + np.sin(angle)"
            ).replace("a * np.sin(angle) + b * np.cos(angle)", "b + np.cos(angle)"),
            "Sines and cosines are added to the state, as in the lesson; here they "
            "turn it, and its length does not change.",
        ),
        Wrong(
            "places-not-used",
            _ROTATE.replace("places[:, None]", "np.arange(len(states))[:, None]"),
            "Your function numbers the rows itself; the places are given, and need not "
            "begin at 0 or be neighbours.",
        ),
        Wrong(
            "not-woven-back",
            _ROTATE.replace("turned[:, 0::2]", "turned[:, : width // 2]").replace(
                "turned[:, 1::2]", "turned[:, width // 2 :]"
            ),
            "The numbers are right, but all first ones stand before all second ones: "
            "each pair goes back to its own place.",
        ),
    ),
)

# --- 04.7 reach -----------------------------------------------------------------------


def _reach_cases(rng: np.random.Generator) -> list[tuple]:
    ring = np.roll(np.eye(4, dtype=bool), 1, axis=0)  # each reads the place before
    past = np.tri(4, dtype=bool)
    near = past & ~np.tri(4, k=-2, dtype=bool)
    cases: list[tuple] = [
        ([[True]], 1),
        ([[False]], 1),
        ([[True, False], [True, False]], 2),
        ([[False, True], [True, False]], 2),
        (ring, 2),
        (ring, 3),
        (near, 2),
        (past, 3),
    ]
    for size, layers in ((4, 2), (5, 2), (5, 3), (6, 3)):
        mask = rng.random((size, size)) < 0.25
        mask[1:, 0] |= mask[1:].sum(axis=1) == 0  # who reads nobody reads the first
        mask[0, :2] = False, True
        cases.append((mask, layers))
    return [(np.array(mask), layers) for mask, layers in cases]


def _reach(mask: np.ndarray, layers: int) -> list:
    """Walk back from each output, layer by layer."""
    places = range(len(mask))
    rows = []
    for place in places:
        sources = {place}
        for _ in range(layers):
            sources = {key for query in sources for key in places if mask[query][key]}
        rows.append([key in sources for key in places])
    return rows


REACH = Exercise(
    id="04.7",
    title="How far layers carry",
    points=2,
    idea="A mask limits one layer; several layers hand on what each of them has read.",
    function="reach",
    cases=_reach_cases,
    oracle=_reach,
    hints=(
        "Two layers: output i reads some place m in the second layer, and m has read "
        "place j in the first.",
        '"There is an m with both" is what a product of two matrices of truth values '
        "says.",
        "NumPy's @ on two boolean arrays gives a boolean array. How often is it "
        "needed?",
    ),
    wrong=(
        Wrong(
            "one-layer",
            """
def reach(mask, layers):
    return mask.copy()
""",
            "This is the reach of one layer, however many there are: the next layer "
            "reads what this one has gathered.",
        ),
        Wrong(
            "any-number-of-layers",
            """
import numpy as np

def reach(mask, layers):
    seen, found = mask.copy(), mask.copy()
    for _ in range(layers - 1):
        seen = seen @ mask
        found = found | seen
    return found
""",
            "Ways with fewer steps are counted as well; without a path around a layer, "
            "every step has to be taken.",
        ),
        Wrong(
            "path-around-the-layer",
            """
import numpy as np

def reach(mask, layers):
    step = mask | np.eye(len(mask), dtype=bool)
    seen = step.copy()
    for _ in range(layers - 1):
        seen = seen @ step
    return seen
""",
            "Every place keeps what it had, as a residual connection would let it; "
            "here a layer's output is only what its mask lets it read.",
        ),
        Wrong(
            "turned",
            """
import numpy as np

def reach(mask, layers):
    seen = mask.copy()
    for _ in range(layers - 1):
        seen = seen @ mask
    return seen.T.copy()
""",
            "Rows and columns have changed places: a row stands for an output, a "
            "column for an input that it can depend on.",
        ),
        Wrong(
            "ways-counted",
            """
import numpy as np

def reach(mask, layers):
    return np.linalg.matrix_power(mask.astype(int), layers)
""",
            "Your function counts the ways from an input to an output; asked is "
            "whether there is one at all, True or False.",
        ),
        Wrong(
            "one-layer-too-many",
            """
import numpy as np

def reach(mask, layers):
    seen = mask.copy()
    for _ in range(layers):
        seen = seen @ mask
    return seen
""",
            "That is one layer too many: the mask itself is the first layer.",
        ),
    ),
)

EXERCISES = [SHARE, SHARES, MASK, REST, HEADS, ROTATE, REACH]
