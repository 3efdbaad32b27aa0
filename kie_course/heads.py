"""One encoder, many heads: what they share, and classes of texts. Taught in lesson 08.

A head is one linear layer on the encoder's states. Tasks differ in the states that it
reads and in what it chooses from: classes, or the pieces of a text. All heads share one
loss, one training loop (`training.fit`) and one way of going through their data.
`relations` and `answers` hold the other tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from kie_course import BadInput, models, training
from kie_course.data import OUT_OF_SCOPE
from kie_course.encoder import mean_pool, pad
from kie_course.ner import IGNORE, hold_out


@dataclass(frozen=True)
class Example:
    """Word pieces of an item, or of a part of it, and what the head should choose.

    Attributes:
        input_ids: `[CLS]`, a text, `[SEP]`; for answers a second text and `[SEP]`.
        token_type_ids: 1 for the second text.
        target: a class, or the first and the last piece of an answer.
        cut: whether something was left out because the model could not read it.
        item: the number of the item.
        offsets: characters `(start, end)` of the second text's pieces.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    target: int | tuple[int, int]
    cut: bool
    item: int
    offsets: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len(self.input_ids)


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the longest: ids, mask and types (batch, piece), target (batch, …)."""
    input_ids, attention_mask = pad([e.input_ids for e in examples], pad_id)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": pad([e.token_type_ids for e in examples], 0)[0],
        "target": torch.tensor([e.target for e in examples]),
    }


def choice_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of choosing the target: a class, or a piece for each end."""
    inputs = (batch[k] for k in ("input_ids", "attention_mask", "token_type_ids"))
    return cross_entropy(model(*inputs), batch["target"])


class Head(torch.nn.Module):
    """An encoder with one linear layer on its states; each task is a subclass.

    Attributes:
        outputs: names of the classes, or of the two ends of an answer.
        threshold: the score up to which the best choice is rejected; dev chooses it.
        report: how it was trained: settings, dev scores.
    """

    # What a task says:
    recipe: training.Settings  # the settings that dev chose
    metric: str  # the dev score that chooses the best epoch
    reads = 1  # states laid side by side for one choice
    markers: tuple[str, ...] = ()  # word pieces that the vocabulary lacks
    text_of: Callable[[Any], str]  # the text of an item
    outputs_in: Callable[[Sequence], list[str]]  # what training items choose from
    encode: Callable[[Sequence], list[Example]]
    score: Callable[[Sequence, bool, bool], dict]  # see `evaluate`

    def __init__(
        self,
        outputs: Sequence[str],
        model: str | Path | None = None,
        settings: training.Settings | None = None,
    ):
        super().__init__()
        self.outputs, self.settings = list(outputs), settings or self.recipe
        self.threshold, self.report, self.history = -np.inf, None, None
        training.set_seed(self.settings.seed)  # of the new weights
        self.tokenizer = models.load_tokenizer(model)
        self.base_model = models.load("AutoModel", model, add_pooling_layer=False)
        self.config = self.base_model.config
        if self.tokenizer.add_tokens(list(self.markers), special_tokens=True):
            with models.quiet():
                self.base_model.resize_token_embeddings(len(self.tokenizer))
        self.dropout = torch.nn.Dropout(self.config.hidden_dropout_prob)
        width = self.reads * self.config.hidden_size
        self.linear = torch.nn.Linear(width, len(self.outputs))
        self.to(models.device(self.settings.device))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.base_model.device

    def forward(self, input_ids, attention_mask, token_type_ids) -> torch.Tensor:
        """Logits: (batch, class), or (batch, piece, end of the answer)."""
        inputs = input_ids, attention_mask, token_type_ids
        hidden = self.base_model(*inputs).last_hidden_state  # (batch, piece, hidden)
        read = self.dropout(self.states(hidden, input_ids, attention_mask).float())
        # In bfloat16 close choices would tie: the small last product keeps 32 bits.
        with torch.autocast(read.device.type, enabled=False):
            return self.allowed(self.linear(read), input_ids, token_type_ids)

    def states(self, hidden, input_ids, attention_mask) -> torch.Tensor:
        """What the linear layer reads: the mean of the real pieces, (batch, hidden)."""
        return mean_pool(hidden, attention_mask)

    def allowed(self, logits, input_ids, token_type_ids) -> torch.Tensor:
        """Logits, minus infinity where nothing can be chosen; of classes all can."""
        return logits

    def pieces(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list]]:
        """Word-piece ids of texts, and their characters, without special tokens.

        A `[SEP]` or `[E1]` that somebody has typed is text, no special token.
        """
        rows = models.pieces(self.tokenizer, texts, return_offsets_mapping=True)
        return rows["input_ids"], rows["offset_mapping"]

    def example(
        self, text: list[int], *rest: Any, second: list[int] | None = None, **more: Any
    ) -> Example:
        """Put special tokens around one text or two; see `Example` for the rest."""
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        first, other = [cls, *text, sep], [] if second is None else [*second, sep]
        types = [0] * len(first) + [1] * len(other)
        return Example(first + other, types, *rest, **more)

    def logits(self, examples: Sequence[Example], progress: bool) -> list[torch.Tensor]:
        """Logits of every example, on the CPU, in the order given."""
        found: list[torch.Tensor] = [torch.empty(0)] * len(examples)
        order = sorted(range(len(examples)), key=lambda i: len(examples[i]))
        self.eval()
        for start in tqdm(range(0, len(order), 64), desc="head", disable=not progress):
            chosen = order[start : start + 64]
            batch = collate([examples[i] for i in chosen], self.tokenizer.pad_token_id)
            batch = {k: v.to(self.device) for k, v in batch.items() if k != "target"}
            context = models.autocast(self.device, self.settings.bf16)
            with torch.inference_mode(), context:
                rows = self(**batch).cpu()
            for i, row in zip(chosen, rows, strict=True):
                found[i] = row
        return found

    def evaluate(
        self, items: Sequence, calibrate: bool = False, progress: bool = False
    ) -> dict:
        """Score labelled items; see what the task's `score` names.

        Args:
            items: as for training.
            calibrate: choose the threshold on them first.
            progress: show a bar on standard error.

        Raises:
            BadInput: there is nothing to score.
        """
        if not items:
            raise BadInput("there is nothing to score: no labelled item was given")
        return self.score(items, calibrate, progress)

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), tokenizer, classes and threshold to a folder."""
        with models.quiet():
            self.base_model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_file(self.linear.state_dict(), Path(folder) / "head.safetensors")
        own = {k: getattr(self, k) for k in ("outputs", "threshold", "report")}
        text = json.dumps({"head": type(self).__name__} | own, ensure_ascii=False)
        (Path(folder) / "head.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, settings: training.Settings | None = None):
        """Load a head that `save` wrote.

        Raises:
            BadInput: the folder holds no head, that of another task, or a damaged one.
        """
        own, kind = Path(folder) / "head.json", cls.__name__
        with models.undamaged(own):
            saved = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else {}
            if saved.pop("head", None) != kind:
                raise BadInput(f"{folder} holds no {kind}; train one and save it there")
            head = cls(saved["outputs"], folder, settings)
        weights = Path(folder) / "head.safetensors"
        with models.undamaged(weights):
            head.linear.load_state_dict(load_file(weights))
        vars(head).update(saved)
        return head.eval()


AnyHead = TypeVar("AnyHead", bound=Head)


def train(
    task: type[AnyHead],
    train: Sequence,
    dev: Sequence | None = None,
    *,
    model: str | Path | None = None,
    settings: training.Settings | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> AnyHead:
    """Fine-tune an encoder with a head of its own; keep the weights best on dev.

    Args:
        task: `TextClassifier`, `relations.RelationClassifier` or `answers.Reader`.
        train: labelled items of the task.
        dev: the same, for the best epoch and the threshold; by default a seeded
            tenth of the texts of train is held out. Empty, once the settings are
            chosen: learn from all of train and keep the last weights.
        model: an encoder, see `models.resolve`.
        settings: by default the task's `recipe`. With every layer frozen this is a
            probe: what does the encoder know already?
        folder: where checkpoints go; an interrupted run found there is resumed.
        progress: show a bar on standard error.

    Raises:
        BadInput: nothing to train on, or nothing to choose between.
    """
    settings, held_out = settings or task.recipe, dev is None
    if held_out:
        texts = list(dict.fromkeys(task.text_of(item) for item in train))
        if len(texts) < 2:
            raise BadInput("training needs at least two texts, or a dev set")
        kept = set(hold_out(texts, settings.seed)[0])
        dev = [item for item in train if task.text_of(item) not in kept]
        train = [item for item in train if task.text_of(item) in kept]
    head = task(task.outputs_in(train), model, settings)
    # What is no class (a text out of scope) is not learned.
    examples = [e for e in head.encode(train) if e.target != IGNORE]
    head.history = training.fit(
        head,
        examples,
        lambda batch: collate(batch, head.tokenizer.pad_token_id),
        choice_loss,
        settings,
        evaluate=(lambda: head.evaluate(dev, calibrate=True)[task.metric])
        if dev
        else None,
        folder=None if folder is None else Path(folder),
        progress=progress,
    )
    head.report = {
        "dev": head.evaluate(dev, calibrate=True) if dev else None,
        "settings": {
            **asdict(settings),
            "device": head.device.type,
            "model": str(model or models.SHIPPED),
            "train_items": len(train),
            "dev_items": len(dev),
            "dev": "a seeded tenth of the texts of train" if held_out else "given",
            "examples": len(examples),
            "cut": sum(example.cut for example in examples),
        },
    }
    return head


# --- one class for a whole input -----------------------------------------------------


class Classifier(Head):
    """A head that chooses one class for a whole input."""

    label_of: Callable[[Any], str]  # the label of an item

    @classmethod
    def outputs_in(cls, items: Sequence) -> list[str]:
        """Classes that occur in training items.

        Raises:
            BadInput: fewer than two.
        """
        names = sorted({cls.label_of(item) for item in items} - {OUT_OF_SCOPE})
        if len(names) < 2:
            raise BadInput(f"training needs two classes at least, not {names}")
        return names

    def target(self, label: str) -> int:
        """Give the number of a class; `IGNORE` for what is none."""
        return self.outputs.index(label) if label in self.outputs else IGNORE

    def choose(
        self, items: Sequence, progress: bool = False
    ) -> list[tuple[str, float]]:
        """The most probable class of each item, and its probability."""
        rows = self.logits(self.encode(items), progress)
        best = [row.softmax(-1).max(-1) for row in rows]
        return [(self.outputs[int(b.indices)], float(b.values)) for b in best]


class TextClassifier(Classifier):
    """Classes of texts, from the mean of all states; rejects what no class covers.

    Items are `(text, label)`; a text is read up to the model's limit. Texts labelled
    `OUT_OF_SCOPE` are not learned: those of dev choose the probability up to which a
    text is rejected. Hendrycks and Gimpel (2017); Larson et al. (2019).
    """

    recipe = training.Settings(learning_rate=1e-4, epochs=4, batch_size=32)
    metric = "accuracy"
    text_of, label_of = itemgetter(0), itemgetter(1)

    def encode(self, items: Sequence[tuple[str, str]]) -> list[Example]:
        """Turn texts and labels into examples."""
        room = models.max_length(self.base_model) - 2
        rows, _ = self.pieces([text for text, _ in items])
        return [
            self.example(row[:room], self.target(items[i][1]), len(row) > room, i)
            for i, row in enumerate(rows)
        ]

    def score(self, items: Sequence, calibrate: bool, progress: bool) -> dict:
        """See `scope_scores`."""
        gold = np.array([label for _, label in items])
        chosen, sure = map(np.array, zip(*self.choose(items, progress), strict=True))
        inside = gold != OUT_OF_SCOPE
        if calibrate and 0 < inside.sum() < len(gold):
            # Both kinds weigh the same, however few texts of dev are out of scope.
            kept, rejected = (chosen == gold) / inside.sum(), ~inside / (~inside).sum()
            self.threshold = choose_threshold(sure, kept, rejected)
        return scope_scores(gold, chosen, sure, self.threshold)

    def predict(self, texts: Sequence[str], progress: bool = False) -> list[dict]:
        """Label texts: `{"text", "label", "probability"}`, rejected ones out of scope.

        The probability is that of the best class, rejected or not.
        """
        chosen = self.choose([(text, "") for text in texts], progress)
        return [
            {
                "text": text,
                "label": label if sure > self.threshold else OUT_OF_SCOPE,
                "probability": sure,
            }
            for text, (label, sure) in zip(texts, chosen, strict=True)
        ]


# --- scores --------------------------------------------------------------------------


def scope_scores(
    gold: Sequence[str],
    predicted: Sequence[str],
    scores: Sequence[float],
    threshold: float,
) -> dict[str, float]:
    """Accuracy and macro-F1 in scope, and how well the rest is told apart.

    Args:
        gold: labels, `OUT_OF_SCOPE` for texts that no class covers.
        predicted: the best class of each text.
        scores: how sure of it the model is.
        threshold: texts that score no higher are rejected.

    Returns:
        `accuracy` and `macro_f1` of the in-scope texts, nothing rejected. If some texts
        are out of scope also `auroc` (the share of pairs in which the text in scope
        scores higher), `accepted_accuracy` (in scope: right *and* accepted) and
        `oos_recall` (out of scope: rejected).

    Raises:
        BadInput: every text is out of scope.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    gold, predicted, scores = map(np.asarray, (gold, predicted, scores))
    inside, right = gold != OUT_OF_SCOPE, gold == predicted
    accepted = scores > threshold
    if not inside.any():
        raise BadInput("there is nothing to score: every text is out of scope")
    names = sorted(set(gold[inside]))
    f1 = f1_score(
        gold[inside], predicted[inside], labels=names, average="macro", zero_division=0
    )
    found = {"accuracy": float(right[inside].mean()), "macro_f1": float(f1)}
    if inside.all():
        return found
    return found | {
        "auroc": float(roc_auc_score(inside, scores)),
        "accepted_accuracy": float((right & accepted)[inside].mean()),
        "oos_recall": float((~accepted)[~inside].mean()),
    }


def choose_threshold(
    scores: Sequence[float], kept: Sequence[float], rejected: Sequence[float]
) -> float:
    """The score up to which to reject, such that the items' values sum to the most.

    Args:
        scores: of the items.
        kept: the value of each item if it is kept.
        rejected: its value if it is rejected.

    Returns:
        one of the scores, or minus infinity: reject nothing. Equal scores stay
        together.
    """
    order = np.argsort(scores, kind="stable")
    ranked = np.asarray(scores, dtype=float)[order]
    gains = np.cumsum(np.subtract(rejected, kept, dtype=float)[order])
    gains[:-1][ranked[:-1] == ranked[1:]] = -np.inf
    best = int(gains.argmax())
    return float(ranked[best]) if gains[best] > 0 else -np.inf
