"""The bi-encoder: a text, query or document alike, becomes one vector.

Taught in lesson 07.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from tqdm import tqdm

from kie_course import BadInput, model_card, models, training

MAX_LENGTH = 256
"""Word pieces of a text that are read: what the shipped encoder was trained with."""

OVERLAP = 64
"""Word pieces that neighbouring windows of a long text share."""

STRETCH = 1.15
"""Texts go through the encoder together if the longest is at most this much longer."""


def mean_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean of the hidden states of real tokens.

    Args:
        hidden: (batch, token, hidden).
        attention_mask: (batch, token), 1 for real tokens.

    Returns:
        (batch, hidden); zeros where a text has no token at all, never NaN. Taught in
        lesson 07.
    """
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, token, 1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


@dataclass
class BiEncoder:
    """An encoder that turns a text, query or document alike, into one vector.

    Attributes:
        model: a Transformers encoder.
        tokenizer: the fast tokenizer that belongs to it.
        temperature: of the softmax it was or will be tuned with.
        normalize: unit vectors, so that a dot product is a cosine.
        max_length: word pieces read at once; a longer document is read in windows.
        bf16: bfloat16 where the device has it.
        report: how it was tuned.
    """

    model: Any
    tokenizer: Any
    temperature: float = 0.05
    normalize: bool = True
    max_length: int = MAX_LENGTH
    bf16: bool = True
    report: dict | None = None
    history: training.History | None = None

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Word-piece ids of texts, special tokens included, cut to `max_length`.

        A `[SEP]` that somebody has typed is text, no special token.
        """
        if not texts:
            return []
        texts = list(texts)
        rows = self.tokenizer(
            texts, truncation=True, max_length=self.limit, split_special_tokens=True
        )
        return rows["input_ids"]

    @property
    def limit(self) -> int:
        """Word pieces that are read at once: `max_length`, or the model's own."""
        return min(self.max_length, models.max_length(self.model))

    def passages(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Word-piece ids of the windows of every text: of a short one, one window.

        Special tokens are included, so a window has `limit` ids at most.
        """
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return [
            [[start, *window, end] for window in cut(ids, self.limit - 2)]
            for ids in models.pieces(self.tokenizer, texts)["input_ids"]
        ]

    def fingerprint(self) -> str:
        """SHA-256 of weights and settings; the tokenizer is taken as theirs."""
        settings = [self.normalize, self.limit, OVERLAP]
        return models.digest([self.model.state_dict()], settings)

    def embed(self, ids: torch.Tensor, mask: torch.Tensor, model=None) -> torch.Tensor:
        """Vectors (batch, hidden) of padded word-piece ids (batch, token)."""
        # A text that occurs twice is encoded once.
        both, back = torch.unique(torch.cat([ids, mask], 1), dim=0, return_inverse=True)
        ids, mask = both.chunk(2, dim=1)

        def pool(ids, mask):
            hidden = (model or self.model)(ids, mask).last_hidden_state
            return mean_pool(hidden.float(), mask)

        pooled = by_length(pool, ids, mask)[back]
        return normalize(pooled, dim=-1) if self.normalize else pooled

    def encode(
        self, texts: Sequence[str], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """Vectors of texts, (texts, hidden), 32-bit floats, in the order given.

        Of a text longer than the model the beginning is read.
        """
        return self._vectors(self.tokenize(texts), batch_size, progress)

    def encode_passages(
        self, texts: Sequence[str], batch_size: int = 64, progress: bool = False
    ) -> tuple[np.ndarray, list[int]]:
        """Vectors of all windows, (windows, hidden), and how many each text has."""
        cut_up = self.passages(texts)
        windows = [ids for of_text in cut_up for ids in of_text]
        vectors = self._vectors(windows, batch_size, progress)
        return vectors, [len(of_text) for of_text in cut_up]

    def _vectors(
        self, ids: Sequence[list[int]], batch_size: int, progress: bool
    ) -> np.ndarray:
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = np.zeros((len(ids), self.model.config.hidden_size), dtype=np.float32)
        device = self.model.device
        self.model.eval()
        batches = range(0, len(order), batch_size)
        for start in tqdm(batches, desc="encoding", disable=not progress):
            chosen = order[start : start + batch_size]
            batch = pad([ids[i] for i in chosen], self.tokenizer.pad_token_id)
            with torch.inference_mode(), models.autocast(device, self.bf16):
                rows = self.embed(*(tensor.to(device) for tensor in batch))
            vectors[chosen] = rows.float().cpu().numpy()
        return vectors

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), tokenizer, settings, report and card."""
        with models.quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        own = ("temperature", "normalize", "max_length", "report")
        settings = {key: getattr(self, key) for key in own}
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        (Path(folder) / "retrieval.json").write_text(text, encoding="utf-8")
        if self.report:
            model_card.write(folder, "retrieval", self.report)


def by_length(
    run: Callable[..., torch.Tensor], ids: torch.Tensor, *others: torch.Tensor
) -> torch.Tensor:
    """Run texts of similar length together, each group trimmed to its longest.

    Args:
        run: takes rows of `ids` and of `others`; gives as many rows.
        ids: (batch, token), padded at the end.
        others: of the same shape, the first the mask: 1 for real tokens.

    Returns:
        all rows that `run` gave, in the order of `ids`.
    """
    lengths = others[0].sum(dim=1).tolist()
    groups = of_similar_length(lengths)
    parts = []
    for rows in groups:
        width = lengths[rows[-1]]
        parts.append(run(*(tensor[rows, :width] for tensor in (ids, *others))))
    place = torch.tensor([row for rows in groups for row in rows]).argsort()
    return torch.cat(parts)[place.to(ids.device)]


def cut(ids: Sequence[int], width: int, overlap: int = OVERLAP) -> list[list[int]]:
    """Cut a long text into overlapping windows, all of them full.

    Args:
        ids: pieces of the text.
        width: pieces of a window; what fits into one is left whole.
        overlap: pieces that neighbours share at least, a quarter of the width at most.
    """
    step = width - min(overlap, width // 4)
    last = max(0, len(ids) - width)  # where the last window starts
    starts = [*range(0, last, step), last]
    return [list(ids[start : start + width]) for start in starts]


def of_similar_length(lengths: Sequence[int]) -> list[list[int]]:
    """Split rows into groups, shortest first, within `STRETCH` of their shortest."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if not groups or lengths[row] > STRETCH * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(row)
    return groups


def pad(
    rows: Sequence[Sequence[int]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows of ids to the longest: `(input_ids, attention_mask)`, (batch, token)."""
    width = max(map(len, rows))
    ids = [[*row, *[pad_id] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def load(
    name: str | Path | None = None, device: str | None = None, bf16: bool = True
) -> BiEncoder:
    """Load a tuned bi-encoder from its folder, or an untouched encoder by name.

    Raises:
        BadInput: no such model (see `models.resolve`).
    """
    source = Path(models.resolve(name))
    if (source / "rerank.json").is_file():
        raise BadInput(f"{source} is a re-ranker: it cannot encode a text alone")
    model = models.load("AutoModel", name, add_pooling_layer=False)
    own = source / "retrieval.json"
    tokenizer = models.load_tokenizer(name)
    encoder = BiEncoder(model.to(models.device(device)), tokenizer, bf16=bf16)
    if own.is_file():
        with models.undamaged(own):
            settings = json.loads(own.read_text(encoding="utf-8"))
            encoder = replace(encoder, **settings)
    return encoder


def named(system: str, device: str | None = None, bf16: bool = True) -> BiEncoder:
    """Load what the command line calls a model: a folder, or `pretrained`.

    Raises:
        BadInput: no such folder, or no model in it.
    """
    if system == "pretrained":
        return load(None, device, bf16)
    if not Path(system).is_dir():
        raise BadInput(f"{system}: no such model folder; name one, or pretrained")
    return load(system, device, bf16)
