"""Sequence to sequence: the encoder reads a text, a small decoder writes characters.

The decoder is taught in lesson 04b, used in 08. It is trained by teacher forcing with
the negative log-likelihood of each next character, and writes greedily.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu
from torch.nn.utils.rnn import pad_sequence

from kie_course import BadInput, models, training
from kie_course.attention import MultiHeadAttention
from kie_course.encoder import pad
from kie_course.ner import IGNORE

END, START = 0, 1
"""Symbols that are no characters; the characters follow."""

LONGEST = 32
"""Characters of a written text, `END` included."""


class FeedForward(nn.Module):
    """A memory of learned keys (rows of `inner`) and values (columns of `outer`)."""

    def __init__(self, d_model: int, d_inner: int):
        super().__init__()
        self.inner = nn.Linear(d_model, d_inner)
        self.outer = nn.Linear(d_inner, d_model)

    def forward(self, states: Tensor) -> Tensor:
        """(..., d_model) to (..., d_model), each word alone."""
        return self.outer(gelu(self.inner(states)))


class DecoderLayer(nn.Module):
    """Attention to the own past, to another text, then a feed-forward net."""

    def __init__(self, d_model: int, num_heads: int, d_inner: int):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.attention_norm = nn.LayerNorm(d_model)
        self.cross = MultiHeadAttention(d_model, num_heads)
        self.cross_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_inner)
        self.output_norm = nn.LayerNorm(d_model)

    def forward(
        self, states: Tensor, encoded: Tensor, mask: Tensor, encoded_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States (batch, target, d_model) to states, and the weights on `encoded`."""
        attended, _ = self.attention(states, states, states, mask)
        states = self.attention_norm(states + attended)
        found, weights = self.cross(states, encoded, encoded, encoded_mask)
        states = self.cross_norm(states + found)
        return self.output_norm(states + self.feed_forward(states)), weights


@dataclass(frozen=True)
class Pair:
    """Word pieces of a text, and the symbols to be written, `END` included.

    `states` is what a frozen encoder makes of the pieces: computed once.
    """

    input_ids: list[int]
    labels: list[int]
    states: Tensor | None = None  # (piece, hidden)

    def __len__(self) -> int:
        return len(self.input_ids)


def spell(text: str) -> str:
    """Put spaces around digits, so that each becomes a word piece of its own."""
    return re.sub(r"(\d)", r" \1 ", text)


def shift_right(labels: Tensor) -> Tensor:
    """What the writer sees: `START`, then the labels but the last (lesson 04b)."""
    inputs = labels.roll(1, dims=1)
    inputs[:, 0] = START
    return inputs.masked_fill(inputs == IGNORE, END)  # pads: nobody reads them


class Writer(nn.Module):
    """An encoder, and a decoder that writes characters while it reads the states.

    Attributes:
        outputs: the characters that may be written.
        weights: of the last forward pass, last layer's cross-attention,
            (batch, heads, target, source).
        report, history: how it was trained.
    """

    recipe = training.Settings(learning_rate=1e-3, epochs=8, batch_size=64)

    def __init__(
        self,
        outputs: Sequence[str],
        model: str | Path | None = None,
        settings: training.Settings | None = None,
        *,
        d_model: int = 128,
        layers: int = 2,
    ):
        super().__init__()
        self.outputs, self.settings = list(outputs), settings or self.recipe
        self.shape = {"d_model": d_model, "layers": layers}
        self.weights, self.report, self.history = None, None, None
        training.set_seed(self.settings.seed)  # of the new weights
        self.tokenizer = models.load_tokenizer(model)
        self.base_model = models.load("AutoModel", model, add_pooling_layer=False)
        self.config = self.base_model.config
        symbols = len(self.outputs) + 2
        parts = [DecoderLayer(d_model, 4, 4 * d_model) for _ in range(layers)]
        self.decoder = nn.ModuleDict(
            {
                "bridge": nn.Linear(self.config.hidden_size, d_model),
                "symbol": nn.Embedding(symbols, d_model),
                "place": nn.Embedding(LONGEST, d_model),
                "layers": nn.ModuleList(parts),
                "answer": nn.Linear(d_model, symbols),
            }
        )
        self.to(models.device(self.settings.device))

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, states: Tensor | None = None
    ) -> Tensor:
        """What the decoder reads: (batch, source, d_model)."""
        if states is None:
            states = self.base_model(input_ids, attention_mask).last_hidden_state
        places = torch.arange(input_ids.shape[1], device=states.device)
        places = self.decoder["place"](places.clamp(max=LONGEST - 1))
        return self.decoder["bridge"](states) + places  # one table serves both texts

    def write(self, inputs: Tensor, encoded: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of each next symbol, (batch, target, symbol)."""
        tokens = inputs.shape[1]
        past = torch.ones(tokens, tokens, dtype=torch.bool, device=inputs.device).tril()
        source = attention_mask.bool()[:, None, None]  # (batch, heads, query, source)
        states = self.decoder["symbol"](inputs) + self.decoder["place"].weight[:tokens]
        for layer in self.decoder["layers"]:
            states, weights = layer(states, encoded, past, source)
        self.weights = weights.detach()
        return self.decoder["answer"](states)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        inputs: Tensor,
        states: Tensor | None = None,
    ) -> Tensor:
        """Logits with the right past given (teacher forcing)."""
        encoded = self.read(input_ids, attention_mask, states)
        return self.write(inputs, encoded, attention_mask)

    def encode(self, items: Sequence[tuple[str, str]]) -> list[Pair]:
        """Turn `(text, text to be written)` into word pieces and symbols.

        Raises:
            BadInput: what is to be written is too long, or has other characters.
        """
        number = {character: i for i, character in enumerate(self.outputs, 2)}
        for _, value in items:
            strange = sorted(set(value) - set(number))
            if strange or len(value) >= LONGEST:
                raise BadInput(
                    f"{value[:40]!r} cannot be written: {strange} not in the outputs"
                    if strange
                    else f"{value[:40]!r}… is longer than {LONGEST - 1} characters"
                )
        texts = [spell(text) for text, _ in items]
        limit = {"truncation": True, "max_length": models.max_length(self.base_model)}
        limit["split_special_tokens"] = True  # a typed [SEP] is text
        rows = self.tokenizer(texts, **limit)["input_ids"] if texts else []
        return [
            Pair(row, [*(number[c] for c in value), END])
            for row, (_, value) in zip(rows, items, strict=True)
        ]

    def collate(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Pad: ids and mask (batch, source), inputs and labels (batch, target)."""
        ids, mask = pad([p.input_ids for p in pairs], self.tokenizer.pad_token_id)
        labels = pad([p.labels for p in pairs], IGNORE)[0]
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        batch["inputs"] = shift_right(labels)
        states = [p.states for p in pairs if p.states is not None]
        if states:
            batch["states"] = pad_sequence(states, batch_first=True)
        return batch

    @torch.no_grad()
    def read_once(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs with the encoder's states, for training a decoder alone."""
        found = list(pairs)
        for chosen, batch in self.batches(pairs):
            inputs = batch["input_ids"], batch["attention_mask"]
            with models.autocast(self.base_model.device, self.settings.bf16):
                rows = self.base_model(*inputs).last_hidden_state.float().cpu()
            for i, row in zip(chosen, rows, strict=True):
                # A copy: a view would keep the padded batch in memory.
                found[i] = replace(pairs[i], states=row[: len(pairs[i])].clone())
        return found

    def batches(self, pairs: Sequence[Pair]):
        """Numbers of some pairs of similar length, and them as a batch; no gradient."""
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i]))
        self.eval()
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            batch = self.collate([pairs[i] for i in chosen])
            device = self.base_model.device
            yield chosen, {name: rows.to(device) for name, rows in batch.items()}

    @torch.inference_mode()
    def forced(self, items: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Under teacher forcing: nats of each right text, and whether all is right.

        Nats are summed over characters and `END`. All is right in free writing exactly
        if it is here: up to the first error both see the same past (lesson 04b).
        """
        found: list[tuple[float, bool]] = [(0.0, False)] * len(items)
        for chosen, batch in self.batches(self.encode(items)):
            labels = batch.pop("labels")
            logits = self(**batch)
            nats = cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none"
            ).sum(1)
            right = ((logits.argmax(-1) == labels) | (labels == IGNORE)).all(1)
            rows = zip(chosen, nats.tolist(), right.tolist(), strict=True)
            for i, *row in rows:
                found[i] = tuple(row)
        return found

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[dict]:
        """Write greedily: `{"text", "value", "probability"}` of each text.

        What is cut at the longest, before its `END`, has the probability 0.
        """
        found: list[dict] = [{}] * len(texts)
        for chosen, batch in self.batches(self.encode([(text, "") for text in texts])):
            mask = batch["attention_mask"]
            encoded = self.read(batch["input_ids"], mask)
            written = torch.full((len(mask), 1), START, device=mask.device)
            sure, done = torch.zeros(len(mask)), torch.zeros(len(mask)).bool()
            while written.shape[1] <= LONGEST and not done.all():
                logits = self.write(written, encoded, mask)[:, -1]
                best = logits.log_softmax(-1).max(-1)
                sure += best.values.cpu() * ~done
                done |= best.indices.cpu() == END
                written = torch.cat([written, best.indices[:, None]], dim=1)
            for i, row, total in zip(chosen, written.tolist(), sure, strict=True):
                symbols = row[1 : row.index(END) if END in row else None]
                value = "".join(self.outputs[s - 2] for s in symbols if s != START)
                found[i] = {"text": texts[i], "value": value}
                found[i]["probability"] = float(total.exp()) if END in row else 0.0
        return found

    def evaluate(self, items: Sequence[tuple[str, str]]) -> dict[str, float]:
        """Share of texts written exactly, and nats a character, `END` counted.

        Raises:
            BadInput: there is nothing to score.
        """
        if not items:
            raise BadInput("there is nothing to score: no pair was given")
        nats, right = zip(*self.forced(items), strict=True)
        characters = sum(len(value) + 1 for _, value in items)
        return {"exact": sum(right) / len(items), "nats": sum(nats) / characters}

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), tokenizer and characters to a folder."""
        with models.quiet():
            self.base_model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_file(self.decoder.state_dict(), Path(folder) / "decoder.safetensors")
        own = {"outputs": self.outputs, "shape": self.shape, "report": self.report}
        text = json.dumps(own, ensure_ascii=False)
        (Path(folder) / "writer.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, settings: training.Settings | None = None):
        """Load a writer that `save` wrote.

        Raises:
            BadInput: the folder holds none, or a damaged one.
        """
        own = Path(folder) / "writer.json"
        if not own.is_file():
            raise BadInput(f"{folder} holds no writer; train one and save it there")
        with models.undamaged(own):
            saved = json.loads(own.read_text(encoding="utf-8"))
            writer = cls(saved["outputs"], folder, settings, **saved["shape"])
            writer.report = saved["report"]
        weights = Path(folder) / "decoder.safetensors"
        with models.undamaged(weights):
            writer.decoder.load_state_dict(load_file(weights))
        return writer.eval()


def writing_loss(model, batch: dict[str, Tensor]) -> Tensor:
    """Mean negative log-likelihood of the right characters; padding is left out."""
    inputs = (batch[k] for k in ("input_ids", "attention_mask", "inputs"))
    logits = model(*inputs, batch.get("states")).float().flatten(0, 1)
    return cross_entropy(logits, batch["labels"].flatten(), ignore_index=IGNORE)


def train(
    train: Sequence[tuple[str, str]],
    dev: Sequence[tuple[str, str]],
    *,
    outputs: Sequence[str] | None = None,
    model: str | Path | None = None,
    settings: training.Settings | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Writer:
    """Train a decoder, and the encoder layers that are not frozen; keep dev's best.

    Args:
        train: pairs of a text and what is to be written.
        dev: the same; exact match on them chooses the best epoch.
        outputs: characters that may be written; by default those of train.
        model: an encoder, see `models.resolve`.
        settings: by default `Writer.recipe`.
        folder: where checkpoints go; an interrupted run found there is resumed.
        progress: show a bar on standard error.

    Raises:
        BadInput: nothing to train on, or something that cannot be written.
    """
    if outputs is None:
        outputs = sorted({character for _, value in train for character in value})
    writer = Writer(outputs, model, settings)
    pairs = writer.encode(train)
    if not writer.encode(dev):  # told before the work, as what cannot be written
        raise BadInput("there is nothing to choose the best epoch on: dev is empty")
    if writer.settings.frozen_layers == writer.config.num_hidden_layers:
        pairs = writer.read_once(pairs)
    writer.history = training.fit(
        writer,
        pairs,
        writer.collate,
        writing_loss,
        writer.settings,
        evaluate=lambda: writer.evaluate(dev)["exact"],
        folder=None if folder is None else Path(folder),
        progress=progress,
    )
    writer.report = {"dev": writer.evaluate(dev), "settings": asdict(writer.settings)}
    return writer
