"""Named entities: align, fine-tune, evaluate, predict. Taught in lesson 06.

Conventions: IOB2 in memory; one label a word, on its first piece; every other piece
is ignored (-100); a text beyond the model's length goes through overlapping windows
in which every word is labelled exactly once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from kie_course import BadInput, data, model_card, models, training
from kie_course.data import Sentence

IGNORE = -100
"""Label of a piece that has none: special tokens, later pieces, padding."""

TAGGER = "BertForTokenClassification"
"""What the configuration of a tagger is called; that of an encoder alone is not."""

OVERLAP = 64
"""Pieces that neighbouring windows of a long text share."""


@dataclass(frozen=True)
class Window:
    """A piece of a sentence that fits the model.

    `word_ids[i]` is the word whose label piece `i` carries, or `None` if it carries
    none: special token, later piece, or a word that a neighbouring window labels.
    """

    sentence: int
    input_ids: list[int]
    word_ids: list[int | None]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


def align_labels(word_ids: Sequence[int | None], labels: Sequence[int]) -> list[int]:
    """Lay one label a word over word pieces: on the first piece, -100 elsewhere.

    Args:
        word_ids: for each piece the index of its word, `None` for special tokens.
        labels: label ids, one a word.

    Returns:
        label ids, one a piece. Taught in lesson 06.
    """
    aligned, previous = [], None
    for word in word_ids:
        first = word is not None and word != previous
        aligned.append(labels[word] if first else IGNORE)
        previous = word
    return aligned


def cut_windows(
    sizes: Sequence[int], limit: int, overlap: int = OVERLAP
) -> list[tuple[int, int, int, int]]:
    """Cut a long sentence into overlapping windows, each word owned by one of them.

    The words that two windows share are split in the middle: each is labelled where
    it has more context on its nearer side.

    Args:
        sizes: word pieces of each word, each at most `limit`.
        limit: pieces that fit into a window.
        overlap: pieces that neighbouring windows share, about.

    Returns:
        `(start, end, own_start, own_end)` in words: the window reads `start:end` and
        labels `own_start:own_end`.
    """
    extents, start = [], 0
    while True:
        end, used = start, 0
        while end < len(sizes) and used + sizes[end] <= limit:
            used += sizes[end]
            end += 1
        extents.append((start, end))
        if end == len(sizes):
            break
        shared, back = 0, end
        while back - 1 > start and shared + sizes[back - 1] <= min(overlap, limit // 2):
            back -= 1
            shared += sizes[back]
        start = back
    cuts = [(b + a) // 2 for (_, b), (a, _) in pairwise(extents)]
    owned = zip([0, *cuts], [*cuts, len(sizes)], strict=True)
    # Between a short and a very long word a window may own nothing: it is not read.
    return [
        (*extent, *own)
        for extent, own in zip(extents, owned, strict=True)
        if own[0] < own[1]
    ]


def encode(
    sentences: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    label_ids: Sequence[Sequence[int]] | None = None,
) -> list[Window]:
    """Turn sentences of words into windows of word pieces.

    A word without a single piece (a variation selector, say) is fed as `[UNK]`; of a
    word with more pieces than a window holds, the first ones are fed. Either keeps its
    label.

    Args:
        sentences: words.
        tokenizer: a fast tokenizer.
        max_length: pieces that fit the model, `[CLS]` and `[SEP]` included.
        label_ids: one a word, for training.
    """
    limit = max_length - 2
    flat = [word for sentence in sentences for word in sentence]
    # One call for all words: WordPiece never looks beyond a word.
    pieces = models.pieces(tokenizer, flat)["input_ids"]
    pieces = [ids[:limit] or [tokenizer.unk_token_id] for ids in pieces]
    windows, position = [], 0
    for index, sentence in enumerate(sentences):
        ids = pieces[position : position + len(sentence)]
        position += len(sentence)
        labels = label_ids[index] if label_ids else [IGNORE] * len(sentence)
        for start, end, own_start, own_end in cut_windows([len(i) for i in ids], limit):
            word_ids: list[int | None] = [None]
            for word in range(start, end):
                owner = word if own_start <= word < own_end else None
                word_ids += [owner] * len(ids[word])
            windows.append(
                Window(
                    index,
                    [
                        tokenizer.cls_token_id,
                        *(i for word in ids[start:end] for i in word),
                        tokenizer.sep_token_id,
                    ],
                    [*word_ids, None],
                    align_labels([*word_ids, None], labels),
                )
            )
    return windows


def collate(windows: Sequence[Window], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the longest: `input_ids, attention_mask, labels`, (batch, piece)."""
    width = max(len(w) for w in windows)

    def padded(rows: Iterable[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows])

    return {
        "input_ids": padded((w.input_ids for w in windows), pad_id),
        "attention_mask": padded(([1] * len(w) for w in windows), 0),
        "labels": padded((w.labels for w in windows), IGNORE),
    }


def token_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the pieces that carry a label."""
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    return cross_entropy(
        logits.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORE
    )


@dataclass
class Tagger:
    """A fine-tuned model with what is needed to use it.

    Attributes:
        model: a Transformers token classifier; its config holds the label names.
        tokenizer: the fast tokenizer that belongs to it.
        bf16: bfloat16 where the device has it.
        report: how it was trained: settings and scores; `save` makes the model card of
            it. `report["test"]` is for what `evaluate` gives on test data.
    """

    model: Any
    tokenizer: Any
    bf16: bool = True
    report: dict | None = None
    history: training.History | None = None

    @property
    def labels(self) -> list[str]:
        """Label names, by label id."""
        names = self.model.config.id2label
        return [names[i] for i in range(len(names))]

    def tag(
        self,
        sentences: Sequence[Sequence[str]],
        batch_size: int = 64,
        progress: bool = False,
    ) -> list[list[str]]:
        """Label sentences of words: exactly one label a word, whatever their length.

        The labels of a sentence are IOB2; see `best_labels`.
        """
        shares = self.probabilities(sentences, batch_size, progress)
        return [best_labels(rows, self.labels) for rows in shares]

    def probabilities(
        self,
        sentences: Sequence[Sequence[str]],
        batch_size: int = 64,
        progress: bool = False,
    ) -> list[torch.Tensor]:
        """The probability of every label of every word.

        Returns:
            for each sentence (word, label), in 32 bits on the CPU: the softmax at the
            word's first piece, in the one window that labels the word.
        """
        windows = encode(sentences, self.tokenizer, models.max_length(self.model))
        result = [torch.zeros(len(words), len(self.labels)) for words in sentences]
        device = self.model.device
        self.model.eval()
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        batches = range(0, len(order), batch_size)
        for start in tqdm(batches, desc="tagging", disable=not progress):
            chosen = [windows[i] for i in order[start : start + batch_size]]
            batch = collate(chosen, self.tokenizer.pad_token_id)
            with torch.inference_mode(), models.autocast(device, self.bf16):
                logits = self.model(
                    batch["input_ids"].to(device), batch["attention_mask"].to(device)
                ).logits  # (batch, piece, label)
            shares = logits.float().softmax(-1).cpu()
            for window, rows in zip(chosen, shares, strict=True):
                first = first_pieces(window.word_ids)
                result[window.sentence][list(first)] = rows[list(first.values())]
        return result

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), tokenizer, report and card into a folder."""
        with models.quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.report:
            model_card.write(folder, "ner", self.report)
        report = json.dumps(self.report, indent=1, ensure_ascii=False)
        (Path(folder) / "report.json").write_text(report, encoding="utf-8")


def first_pieces(word_ids: Sequence[int | None]) -> dict[int, int]:
    """For each word that a window labels, the place of its first piece."""
    first: dict[int, int] = {}
    for piece, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, piece)
    return first


def may_follow(label: str, before: str) -> bool:
    """Whether IOB2 allows a label after another: `I-X` goes on after `B-X` or `I-X`."""
    return label[0] != "I" or (before != "O" and before[2:] == label[2:])


def best_labels(shares: torch.Tensor, names: Sequence[str]) -> list[str]:
    """The likeliest of all labellings of a sentence that IOB2 allows.

    The probability of a labelling is the product over words. Viterbi (1967): the best
    way to each label of a word goes through the best way to some label before it.

    Args:
        shares: (word, label), probabilities.
        names: of the labels.
    """
    likeliest = [names[i] for i in shares.argmax(-1).tolist()]
    if all(map(may_follow, likeliest, ["O", *likeliest])):
        return likeliest  # no labelling is likelier, and this one is allowed
    logs = shares.clamp(min=1e-30).log()
    # 0 where a label (column) may follow another (row), or begin; else minus infinity.
    steps = torch.tensor([[may_follow(b, a) for b in names] for a in ["O", *names]])
    steps = torch.zeros(steps.shape).masked_fill(~steps, -torch.inf)
    score, ways = logs[0] + steps[0], []
    for row in logs[1:]:
        score, way = (score[:, None] + steps[1:]).max(dim=0)  # (before, label): label
        score = score + row
        ways.append(way.tolist())
    path = [int(score.argmax())]
    for way in reversed(ways):
        path.append(way[path[-1]])
    return [names[i] for i in reversed(path)]


def unknown_words(sentences: Sequence[Sequence[str]], tokenizer: Any) -> list[bool]:
    """For each word whether it is, or holds, what the vocabulary does not have."""
    flat = [word for sentence in sentences for word in sentence]
    pieces = models.pieces(tokenizer, flat)["input_ids"]
    return [not ids or tokenizer.unk_token_id in ids for ids in pieces]


def load(folder: str | Path, device: str | None = None, bf16: bool = True) -> Tagger:
    """Load a tagger that `Tagger.save` wrote.

    Raises:
        BadInput: no such folder, or its labels are not those of a tagger.
    """
    if not Path(folder).is_dir():
        raise BadInput(f"{folder}: no such model folder; train one with ner train")
    model = models.load("AutoModelForTokenClassification", folder)
    if TAGGER not in (model.config.architectures or ()):
        raise BadInput(f"{folder} holds no tagger: it has no layer for labels")
    if any(not _is_label(name) for name in model.config.id2label.values()):
        raise BadInput(f"{folder} holds no tagger: its labels are not O, B-… and I-…")
    return Tagger(model.to(models.device(device)), models.load_tokenizer(folder), bf16)


def _is_label(name: str) -> bool:
    return name == "O" or name[:2] in ("B-", "I-")


def label_names(sentences: Iterable[Sentence]) -> list[str]:
    """`O`, then `B-` and `I-` of every type that occurs, types in alphabetic order."""
    kinds = sorted(data.types_in(sentences))
    return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def hold_out(items: Sequence[Any], seed: int) -> tuple[list[Any], list[Any]]:
    """Split a seeded tenth off (at least one item): `(the rest, the tenth)`."""
    chosen = set(
        random.Random(seed).sample(range(len(items)), max(1, len(items) // 10))
    )
    rest = [item for i, item in enumerate(items) if i not in chosen]
    return rest, [item for i, item in enumerate(items) if i in chosen]


def train(
    train: Sequence[Sentence],
    dev: Sequence[Sentence] | None = None,
    *,
    model: str | Path | None = None,
    settings: training.Settings = training.Settings(),  # noqa: B008 (frozen)
    folder: str | Path | None = None,
    progress: bool = True,
) -> Tagger:
    """Fine-tune an encoder for named entities; keep the weights best on dev.

    Args:
        train: labelled sentences.
        dev: the same, for choosing the best epoch; by default a seeded tenth of train
            is held out.
        model: an encoder, see `models.resolve`.
        settings: see `training.Settings`.
        folder: where checkpoints go; an interrupted run found there is resumed.
        progress: show a bar on standard error.

    Raises:
        BadInput: no sentence, or no mention, to train on.
    """
    held_out = dev is None
    if held_out:
        if len(train) < 2:
            raise BadInput("training needs at least two sentences, or a dev file")
        train, dev = hold_out(train, settings.seed)
    names = label_names(train)
    if len(names) == 1:
        raise BadInput("the training data holds no mention: every label is O")
    device = models.device(settings.device)
    tokenizer, known = models.load_tokenizer(model), models.config(model)
    training.set_seed(settings.seed)  # of the new layer's weights
    network = models.load(
        "AutoModelForTokenClassification",
        model,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        ignore_mismatched_sizes=True,  # a tagger that knew other types: its body
    ).to(device)
    if TAGGER in (known.architectures or ()) and [*known.id2label.values()] != names:
        # A layer of the same size would stay, and take one type for another.
        torch.nn.init.normal_(network.classifier.weight, std=known.initializer_range)
        torch.nn.init.zeros_(network.classifier.bias)
    base = models.origin(model)  # before it could be moved
    tagger = Tagger(network, tokenizer, settings.bf16)
    ids = network.config.label2id
    windows = encode(
        [s.words for s in train],
        tokenizer,
        models.max_length(network),
        [[ids[label] for label in s.labels] for s in train],
    )
    tagger.history = training.fit(
        network,
        windows,
        lambda batch: collate(batch, tokenizer.pad_token_id),
        token_loss,
        settings,
        evaluate=lambda: evaluate(tagger, dev)["f1"],
        folder=None if folder is None else Path(folder),
        progress=progress,
    )
    network.to(device)
    tagger.report = {
        "dev": {"f1": tagger.history.best},
        "settings": {
            **asdict(settings),
            "device": device.type,
            "model": str(model or models.SHIPPED),
            "train_sentences": len(train),
            "dev_sentences": len(dev),
            "dev": "a seeded tenth of train" if held_out else "given",
            "windows": len(windows),
            "types": sorted(data.types_in(train)),
            "base": base,
            "versions": models.versions(),
        },
    }
    return tagger


def evaluate(
    tagger: Tagger, sentences: Sequence[Sentence], progress: bool = False
) -> dict:
    """Strict span precision, recall and F1, over all mentions and by type.

    Types that the model does not know count as missed.

    Returns:
        `{"precision", "recall", "f1", "per_type": {type: {…, "support"}},
        "invalid_labels"}`; the last counts predicted `I-` labels that continue nothing:
        strict scoring gives them no credit. A `Tagger` leaves none.
    """
    predicted = tagger.tag([s.words for s in sentences], progress=progress)
    return score([s.labels for s in sentences], predicted)


def score(gold: list[list[str]], predicted: list[list[str]]) -> dict:
    """Strict span scores of IOB2 label sequences (seqeval); see `evaluate`."""
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    if not any(data.spans(row) for row in (*gold, *predicted)):
        table = {"micro avg": dict.fromkeys(("precision", "recall", "f1-score"), 0.0)}
    else:
        table = classification_report(
            gold,
            predicted,
            mode="strict",
            scheme=IOB2,
            output_dict=True,
            zero_division=0,
        )

    def row(values: dict) -> dict:
        keys = {"precision": "precision", "recall": "recall", "f1-score": "f1"}
        return {new: float(values[old]) for old, new in keys.items()}

    covered = sum(end - a for labels in predicted for a, end, _ in data.spans(labels))
    inside = sum(label != "O" for labels in predicted for label in labels)
    return {
        **row(table["micro avg"]),
        "per_type": {
            kind: {**row(values), "support": int(values["support"])}
            for kind, values in table.items()
            if not kind.endswith(" avg")
        },
        "invalid_labels": inside - covered,
    }


def predict(tagger: Tagger, texts: Sequence[str], progress: bool = False) -> list[dict]:
    """Find the names in raw text.

    Args:
        tagger: see `train` and `load`.
        texts: of any length; each is cut into sentences as the corpus is.
        progress: show a bar on standard error.

    Returns:
        for each text `{"text", "entities": [{"start", "end", "type", "text"}]}`;
        `text[start:end]` is the mention, to the character.
    """
    pieces = [
        (index, [(start + a, start + b) for a, b in data.words(text[start:end])])
        for index, text in enumerate(texts)
        for start, end in data.sentences(text)
    ]
    labels = tagger.tag(
        [[texts[i][a:b] for a, b in offsets] for i, offsets in pieces],
        progress=progress,
    )
    results: list[dict] = [{"text": text, "entities": []} for text in texts]
    for (index, offsets), row in zip(pieces, labels, strict=True):
        for first, last, kind in data.spans(row):
            start, end = offsets[first][0], offsets[last - 1][1]
            mention = {"start": start, "end": end, "type": kind}
            results[index]["entities"].append(
                mention | {"text": texts[index][start:end]}
            )
    return results
