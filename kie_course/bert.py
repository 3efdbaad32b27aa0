"""BERT's encoder written from scratch, with the weights of any published one.

Taught in lesson 05; Devlin, Chang, Lee and Toutanova (2019). It is the encoder alone,
in use: no dropout, no head.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from kie_course import BadInput, models
from kie_course.attention import MultiHeadAttention


class Encoded(NamedTuple):
    """What the encoder gives.

    Attributes:
        last_hidden_state: (batch, token, d_model).
        hidden_states: the same after the embeddings and after each layer.
        attentions: (batch, heads, query, key), the weights of each layer.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...]
    attentions: tuple[Tensor, ...]


class Embeddings(nn.Module):
    """A vector for the piece, one for its place, one for its segment; added, normed."""

    def __init__(self, config):
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """(batch, token) of pieces and segments to (batch, token, d_model)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        summed = self.word(input_ids) + self.position(places)
        return self.norm(summed + self.segment(token_type_ids))


class Layer(nn.Module):
    """Attention, then a feed-forward net; each added to its input and normed."""

    def __init__(self, config):
        super().__init__()
        d_model, eps = config.hidden_size, config.layer_norm_eps
        self.attention = MultiHeadAttention(d_model, config.num_attention_heads)
        self.attention_norm = nn.LayerNorm(d_model, eps=eps)
        self.inner = nn.Linear(d_model, config.intermediate_size)
        self.outer = nn.Linear(config.intermediate_size, d_model)
        self.outer_norm = nn.LayerNorm(d_model, eps=eps)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (batch, token, d_model) to states and attention weights."""
        attended, weights = self.attention(states, states, states, mask)
        states = self.attention_norm(states + attended)
        return self.outer_norm(states + self.outer(gelu(self.inner(states)))), weights


class Bert(nn.Module):
    """Embeddings and a stack of layers.

    Called as `bert(input_ids, attention_mask, token_type_ids=None)`, all (batch,
    token); gives an `Encoded`.
    """

    def __init__(self, config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(
            Layer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> Encoded:
        """See the class."""
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        mask = attention_mask[:, None, None, :].bool()  # (batch, heads, query, key)
        hidden, attentions = [self.embeddings(input_ids, token_type_ids)], []
        for layer in self.layers:
            states, weights = layer(hidden[-1], mask)
            hidden.append(states)
            attentions.append(weights)
        return Encoded(hidden[-1], tuple(hidden), tuple(attentions))

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None) -> Bert:
        """Load the weights of a published BERT (see `models.resolve`).

        Raises:
            BadInput: there is no such model, or it is built differently.
        """
        theirs = models.load("AutoModel", name)
        config = theirs.config
        if config.model_type != "bert" or config.hidden_act != "gelu":
            raise BadInput(
                f"{name}: a {config.model_type} with {config.hidden_act} is no BERT "
                "of the published form"
            )
        bert = cls(config)
        bert.load_state_dict(translated(theirs.state_dict()))
        return bert.eval()


NAMES = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.segment",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer": "layers",
    "attention.self": "attention",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "inner",
    "output.dense": "outer",
    "output.LayerNorm": "outer_norm",
}
"""Published name of a part to ours; of two that fit, the first one counts."""


def translated(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename published weights to ours; the pooler, which we lack, is left out."""
    ours = {}
    for name, tensor in theirs.items():
        if not name.startswith("pooler."):
            for old, new in NAMES.items():
                name = name.replace(f"{old}.", f"{new}.")
            ours[name] = tensor
    return ours
