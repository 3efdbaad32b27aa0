"""Attention equals PyTorch's, keeps its rule on masks, and its two lemmas hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize, scaled_dot_product_attention
from torch.testing import assert_close

from kie_course import attention
from kie_course.attention import MultiHeadAttention, attend, masked_softmax

pytestmark = pytest.mark.usefixtures("one_thread")
sizes = st.integers(1, 6)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
@settings(deadline=None)
def test_attend_is_torchs(queries, keys, d_head, d_value, seed):
    query, key = drawn(seed, 2, 3, queries, d_head), drawn(seed + 1, 2, 3, keys, d_head)
    value = drawn(seed + 2, 2, 3, keys, d_value)
    mask = drawn(seed + 3, 2, 1, queries, keys) > 0
    for allowed in (None, mask):
        output, weights = attend(query, key, value, mask=allowed)
        theirs = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        assert_close(output, theirs, atol=1e-5, rtol=1e-5)
        assert weights.shape == (2, 3, queries, keys)


def test_a_row_with_nothing_to_attend_to_is_zero():
    mask = torch.tensor([[True, False], [False, False]])
    weights = masked_softmax(torch.zeros(2, 2), mask)
    assert_close(weights, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    value = torch.full((2, 3), 7.0)
    output, _ = attend(torch.ones(2, 4), torch.ones(2, 4), value, mask=mask)
    assert_close(output, torch.stack([value[0], torch.zeros(3)]))


@pytest.mark.parametrize("score", attention.SCORES)
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
    query, key, value = (
        drawn(1, 3, 5),
        normalize(drawn(2, 4, 5), dim=-1),
        drawn(3, 4, 2),
    )
    for temperature in (0.1, 1.0):
        dot = attend(query, key, value, "dot", temperature)
        assert_close(dot, attend(query, key, value, "gaussian", temperature))
        unit = normalize(query, dim=-1)
        dot = attend(unit, key, value, "dot", temperature)
        assert_close(dot, attend(query, key, value, "cosine", temperature))


def test_unknown_score_is_refused():
    with pytest.raises(ValueError, match="'dots' is not one of dot, scaled_dot"):
        attention.scores(torch.ones(1, 2), torch.ones(1, 2), "dots")


def test_multi_head_attention_is_torchs():
    torch.manual_seed(0)
    ours = MultiHeadAttention(12, 3)
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).eval()
    with torch.no_grad():
        parts = [ours.query, ours.key, ours.value]
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    query, states = drawn(1, 2, 4, 12), drawn(2, 2, 5, 12)
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    output, weights = ours(query, states, states, real[:, None, None, :])
    right = theirs(
        query, states, states, key_padding_mask=~real, average_attn_weights=False
    )
    assert_close((output, weights), right, atol=1e-5, rtol=1e-5)


def test_heads_must_divide_the_model():
    with pytest.raises(ValueError, match="d_model 10 is no multiple of 3 heads"):
        MultiHeadAttention(10, 3)
