"""Attention, written out: scores, a masked softmax, one head, several heads.

Taught in lessons 02 to 04. A query asks, keys are compared with it, and the values are
blended by the weights that come out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

SCORES = ("dot", "scaled_dot", "cosine", "gaussian")


def scores(query: Tensor, key: Tensor, score: str = "scaled_dot") -> Tensor:
    """How well each key fits each query: (..., query, key).

    `dot` is q·k, `scaled_dot` q·k / sqrt(d_head), `cosine` the dot product of unit
    vectors (0 for a zero vector), `gaussian` -|q - k|² / 2. Taught in lesson 03.

    Args:
        query: (..., query, d_head).
        key: (..., key, d_head).
        score: one of `SCORES`.

    Raises:
        ValueError: there is no such score.
    """
    if score == "cosine":
        query, key = normalize(query, dim=-1), normalize(key, dim=-1)
    dot = query @ key.transpose(-2, -1)
    if score in ("dot", "cosine"):
        return dot
    if score == "scaled_dot":
        return dot / math.sqrt(query.shape[-1])
    if score == "gaussian":
        own = query.square().sum(-1)[..., :, None]
        other = key.square().sum(-1)[..., None, :]
        return dot - (own + other) / 2
    raise ValueError(f"score {score!r} is not one of {', '.join(SCORES)}")


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last dimension, over what the mask allows.

    A row with nothing to attend to gives zeros, never NaN and never a uniform row.
    Taught in lesson 04.

    Args:
        scores: (..., query, key).
        mask: boolean, broadcastable to `scores`, true where a query may attend.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score: str = "scaled_dot",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend values by how well their keys fit: `(output, weights)`.

    weights = softmax(score / temperature), output = weights @ value. Taught in lessons
    02 (the idea), 03 (scores, temperature) and 04 (masks); Vaswani et al. (2017).

    Args:
        query: (..., query, d_head).
        key: (..., key, d_head).
        value: (..., key, d_value).
        score: one of `SCORES`.
        temperature: divides the scores; small is sharp.
        mask: see `masked_softmax`.

    Returns:
        output (..., query, d_value) and weights (..., query, key).
    """
    weights = masked_softmax(scores(query, key, score) / temperature, mask)
    return weights @ value, weights


class MultiHeadAttention(nn.Module):
    """Several heads side by side, each with its own queries, keys and values.

    The same numbers as `torch.nn.MultiheadAttention` with the same parameters. Taught
    in lesson 04; Vaswani et al. (2017).

    Raises:
        ValueError: `d_model` does not split into `num_heads` equal parts.
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"d_model {d_model} is no multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend with each head, and mix what they bring.

        Args:
            query: (batch, query, d_model).
            key: (batch, key, d_model).
            value: (batch, key, d_model).
            mask: boolean, broadcastable to (batch, heads, query, key), true where a
                query may attend.

        Returns:
            output (batch, query, d_model) and weights (batch, heads, query, key).
        """
        heads = (
            split_heads(layer(states), self.num_heads)
            for layer, states in (
                (self.query, query),
                (self.key, key),
                (self.value, value),
            )
        )
        output, weights = attend(*heads, mask=mask)
        return self.output(merge_heads(output)), weights


def split_heads(states: Tensor, num_heads: int) -> Tensor:
    """(batch, token, d_model) to (batch, heads, token, d_head). Taught in lesson 04."""
    batch, tokens, d_model = states.shape
    return states.view(batch, tokens, num_heads, d_model // num_heads).transpose(1, 2)


def merge_heads(states: Tensor) -> Tensor:
    """(batch, heads, token, d_head) to (batch, token, d_model). Taught in lesson 04."""
    return states.transpose(1, 2).flatten(start_dim=2)
