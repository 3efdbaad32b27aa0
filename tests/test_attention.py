"""Attention equals PyTorch's and Transformers', and keeps its rules on masks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention
from torch.testing import assert_close
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertSelfAttention

from kie_course import attention
from kie_course.attention import (
    MultiHeadAttention,
    attend,
    masked_softmax,
    merge_heads,
    split_heads,
)

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS = {torch.float32: 1e-5, torch.float64: 1e-10}
SHAPES = [(1, 1, 1), (2, 5, 3), (3, 7, 16)]  # batch, query, key
temperatures = st.sampled_from([0.05, 1.0, 4.0])


def drawn(seed: int, *shape: int, dtype=torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def equal(ours, theirs, tolerance: float):
    assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def gradients(output: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a sum in which every number of the output has another weight."""
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype)
    return torch.autograd.grad((output * weights.view_as(output)).sum(), inputs)


# ------------------------------------------------------- the same numbers as libraries


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_attend_is_torchs_with_gradients(dtype, shape, masked):
    batch, queries, keys = shape
    inputs = [
        drawn(1, batch, 2, queries, 8, dtype=dtype),
        drawn(2, batch, 2, keys, 8, dtype=dtype),
        drawn(3, batch, 2, keys, 5, dtype=dtype),
    ]
    for tensor in inputs:
        tensor.requires_grad_()
    mask = drawn(4, batch, 1, queries, keys) > 0 if masked else None
    output, weights = attend(*inputs, mask=mask)
    theirs = scaled_dot_product_attention(*inputs, attn_mask=mask)
    assert weights.shape == (batch, 2, queries, keys)
    equal(output, theirs, PRECISIONS[dtype])
    right = gradients(theirs, inputs)
    equal(gradients(output, inputs), right, PRECISIONS[dtype])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_multi_head_attention_is_torchs_with_gradients(dtype, shape):
    batch, queries, keys = shape
    torch.manual_seed(0)
    ours = MultiHeadAttention(12, 3).to(dtype)
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=dtype)
    with torch.no_grad():
        parts = [ours.query, ours.key, ours.value]
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    query = drawn(1, batch, queries, 12, dtype=dtype).requires_grad_()
    states = drawn(2, batch, keys, 12, dtype=dtype).requires_grad_()
    real = torch.ones(batch, keys, dtype=torch.bool)
    real[-1, keys // 2 + 1 :] = False
    found = ours(query, states, states, real[:, None, None, :])
    right = theirs(
        query, states, states, key_padding_mask=~real, average_attn_weights=False
    )
    equal(found, right, PRECISIONS[dtype])
    inputs = [query, states]
    learnt = gradients(found[0], [*inputs, ours.output.weight])
    theirs_learnt = gradients(right[0], [*inputs, theirs.out_proj.weight])
    equal(learnt, theirs_learnt, PRECISIONS[dtype])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 6), (3, 17)])
def test_heads_are_those_of_transformers_bert(dtype, shape):
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=24, num_attention_heads=4, attn_implementation="eager"
    )
    theirs = BertSelfAttention(config).to(dtype).eval()
    states = drawn(1, *shape, 24, dtype=dtype).requires_grad_()
    real = torch.ones(shape, dtype=torch.bool)
    real[-1, shape[1] // 2 + 1 :] = False
    mask = real[:, None, None, :]
    heads = [split_heads(layer(states), 4) for layer in (theirs.query, theirs.key)]
    values = split_heads(theirs.value(states), 4)
    output, weights = attend(*heads, values, mask=mask)
    blocked = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, -torch.inf)
    right = theirs(states, attention_mask=blocked)
    equal((merge_heads(output), weights), right, PRECISIONS[dtype])
    parameters = [states, *theirs.parameters()]
    equal(
        gradients(merge_heads(output), parameters),
        gradients(right[0], parameters),
        PRECISIONS[dtype],
    )


# --------------------------------------------------------------------- what must hold


class Case:
    """Queries, keys, values and a mask of drawn sizes, with some rows all blocked."""

    def __init__(self, seed: int, queries: int, keys: int, size: float):
        self.query, self.key = (
            drawn(seed + i, 2, n, 4, dtype=torch.float64) * size
            for i, n in enumerate((queries, keys))
        )
        self.value = drawn(seed + 2, 2, keys, 3, dtype=torch.float64)
        self.mask = drawn(seed + 3, 2, queries, keys) > 0
        self.mask[0, 0] = False

    def __repr__(self):
        return f"Case of {tuple(self.mask.shape)}"

    def tensors(self) -> list[Tensor]:
        return [self.query, self.key, self.value]


cases = st.builds(
    Case,
    seed=st.integers(0, 999),
    queries=st.integers(1, 6),
    keys=st.integers(1, 6),
    size=st.sampled_from([0.1, 1.0, 30.0]),
)
each_score = pytest.mark.parametrize("score", attention.SCORES)


@each_score
@given(case=cases, temperature=temperatures)
def test_rows_sum_to_one_or_are_empty(score, case, temperature):
    _, free = attend(*case.tensors(), score, temperature)
    assert_close(free.sum(-1), torch.ones_like(free[..., 0]))
    output, weights = attend(*case.tensors(), score, temperature, case.mask)
    assert_close(weights.sum(-1), case.mask.any(-1).double())
    assert bool((weights >= 0).all())
    assert not weights[~case.mask].any()
    assert not output[~case.mask.any(-1)].any()


@given(case=cases, shift=st.floats(-1e3, 1e3))
def test_adding_a_number_to_a_row_changes_nothing(case, shift):
    scores = attention.scores(case.query, case.key)
    moved = scores + shift * torch.arange(1, scores.shape[-2] + 1)[:, None]
    assert_close(masked_softmax(moved, case.mask), masked_softmax(scores, case.mask))


@each_score
@given(case=cases, seed=st.integers(0, 99))
def test_order_of_keys_is_unseen_and_order_of_queries_kept(score, case, seed):
    query, key, value = case.tensors()
    dice = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(n, generator=dice) for n in case.mask.shape[1:])
    output, weights = attend(query, key, value, score, mask=case.mask)
    mask = case.mask[:, rows][:, :, columns]
    mixed = attend(query[:, rows], key[:, columns], value[:, columns], score, 1.0, mask)
    assert_close(mixed, (output[:, rows], weights[:, rows][:, :, columns]))


@each_score
@given(case=cases)
def test_a_blocked_position_leaves_no_trace(score, case):
    """Neither in what comes out nor in what is learnt; nor does an empty row."""
    hidden = ~case.mask.any(dim=1)  # keys that no query may see
    inputs = [tensor.requires_grad_() for tensor in case.tensors()]
    output, _ = attend(*inputs, score, mask=case.mask)
    query, key, value = gradients(output, inputs)
    assert all(bool(g.isfinite().all()) for g in (query, key, value))
    assert not key[hidden].any()
    assert not value[hidden].any()
    assert not query[~case.mask.any(-1)].any()
    other = [
        torch.where(hidden[..., None], 50.0, tensor.detach()) for tensor in inputs[1:]
    ]
    changed, _ = attend(inputs[0].detach(), *other, score, mask=case.mask)
    assert torch.equal(changed, output.detach())


@each_score
@given(case=cases)
def test_the_callers_tensors_are_not_written_to(score, case):
    given_ = [*case.tensors(), case.mask]
    before = [tensor.clone() for tensor in given_]
    attend(*case.tensors(), score, mask=case.mask)
    masked_softmax(scores := attention.scores(*case.tensors()[:2]), case.mask)
    assert all(torch.equal(a, b) for a, b in zip(given_, before, strict=True))
    assert torch.equal(scores, attention.scores(*case.tensors()[:2]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_rule_on_masks(dtype):
    inputs = [drawn(i, 2, 5, 8) for i in range(3)]
    mask = drawn(3, 2, 5, 5) > 0
    mask[0, 0] = False
    right, _ = attend(*inputs, mask=mask)
    output, weights = attend(*(t.to(dtype) for t in inputs), mask=mask)
    assert not weights[~mask].any()
    assert not output[0, 0].any()
    assert_close(output.float(), right, atol=0.03, rtol=0.03)


def test_self_attention_carries_an_order_along():
    """Shuffled words give the same rows, shuffled: the layer knows no places."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(12, 3)
    states, order = drawn(1, 1, 6, 12), torch.tensor([3, 0, 5, 1, 4, 2])
    output, _ = layer(states, states, states)
    shuffled = states[:, order]
    assert_close(layer(shuffled, shuffled, shuffled)[0], output[:, order])


def test_heads_are_cut_side_by_side_and_joined_again():
    states = torch.arange(2 * 3 * 4.0).view(2, 3, 4)
    heads = split_heads(states, 2)
    assert_close(heads[0, 1], states[0, :, 2:])
    assert_close(merge_heads(heads), states)


def test_an_empty_row_is_zero_by_hand():
    mask = torch.tensor([[True, False], [False, False]])
    weights = masked_softmax(torch.zeros(2, 2), mask)
    assert_close(weights, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    value = torch.full((2, 3), 7.0)
    output, _ = attend(torch.ones(2, 4), torch.ones(2, 4), value, mask=mask)
    assert_close(output, torch.stack([value[0], torch.zeros(3)]))


# ------------------------------------------------------------------ scores, two lemmas


@each_score
def test_scores_by_their_definition(score):
    query, key = drawn(1, 3, 5), drawn(2, 4, 5)
    key[0] = 0
    for i, q in enumerate(query):
        for j, k in enumerate(key):
            dot = float(q @ k)
            right = {
                "dot": dot,
                "scaled_dot": dot / math.sqrt(5),
                "cosine": dot / float(q.norm() * k.norm()) if j else 0.0,
                "gaussian": -float((q - k).square().sum()) / 2,
            }[score]
            found = float(attention.scores(query, key, score)[i, j])
            assert found == pytest.approx(right, abs=1e-5)


def test_two_lemmas_on_equal_norms():
    query, key = drawn(1, 3, 5), normalize(drawn(2, 4, 5), dim=-1)
    value = drawn(3, 4, 2)
    for temperature in (0.1, 1.0):
        dot = attend(query, key, value, "dot", temperature)
        assert_close(dot, attend(query, key, value, "gaussian", temperature))
        unit = normalize(query, dim=-1)
        dot = attend(unit, key, value, "dot", temperature)
        assert_close(dot, attend(query, key, value, "cosine", temperature))


def test_unknown_score_is_refused():
    with pytest.raises(ValueError, match="'dots' is not one of dot, scaled_dot"):
        attention.scores(torch.ones(1, 2), torch.ones(1, 2), "dots")


def test_heads_must_divide_the_model():
    with pytest.raises(ValueError, match="d_model 10 is no multiple of 3 heads"):
        MultiHeadAttention(10, 3)
