"""The cross-encoder: it reads query and document together, to re-rank a short list.

Nothing can be stored, so a first stage finds the candidates and this one reads the
best of them again: Nogueira and Cho (2019), *Passage re-ranking with BERT*. It learns
from an answer among hard negatives, the first stage's own mistakes: Gao, Dai and Callan
(2021), *Rethink training of BERT rerankers*. Taught in lesson 07.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from kie_course import BadInput, model_card, models, training
from kie_course.data import Beir
from kie_course.encoder import MAX_LENGTH, by_length, cut
from kie_course.heads import Head
from kie_course.ranking import Ranker, Ranking, Remembered, evaluate, mean
from kie_course.retrieval import best, fuse, learn_and_dev, relevant

DEPTH = 50
"""Documents of the first stage that are read again."""

NEGATIVES, MINED = 7, 500
"""Wrong documents beside an answer; places of the first stage in which they stand."""

SETTINGS_FILE = "rerank.json"

RECIPE = training.Settings(learning_rate=2e-4, epochs=2, batch_size=8)
"""A batch is so many groups. Held-out queries chose the rate, for a head on `[CLS]`."""


class Relevance(Head):
    """One logit, how well a document answers a query, from the mean of all states.

    The mean, as the shipped encoder was trained to give a text's meaning there. From
    the state of `[CLS]` alone the loss did not move in an epoch.
    """

    recipe = RECIPE


class Row(NamedTuple):
    """Word pieces of a query and of a window of a document, in one input."""

    query: list[int]
    """`[CLS]` query `[SEP]`: token type 0."""
    window: list[int]
    """window `[SEP]`: token type 1."""


@dataclass
class CrossEncoder:
    """How well a document answers a query: both go through the encoder together.

    Attributes:
        model: the encoder with its head.
        first: the system whose best documents it re-ranks, as the command line names
            it.
        max_length: word pieces read at once, query and document together.
        bf16: bfloat16 where the device has it.
        report: how it was tuned.
    """

    model: Relevance
    first: str
    max_length: int = MAX_LENGTH
    bf16: bool = True
    report: dict = field(default_factory=dict)
    history: training.History | None = None

    @property
    def tokenizer(self):
        """The fast tokenizer that belongs to the encoder."""
        return self.model.tokenizer

    def windows(self, pairs: Sequence[tuple[str, str]]) -> list[list[Row]]:
        """The inputs for `(query, document)` pairs, one for each of its windows.

        A query takes half of an input at most.
        """
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        rows = models.pieces(self.tokenizer, texts)["input_ids"]
        pieces = dict(zip(texts, rows, strict=True))
        limit = min(self.max_length, models.max_length(self.model)) - 3
        inputs = []
        for query, document in pairs:
            asked = pieces[query][: limit // 2]
            windows = cut(pieces[document], limit - len(asked))
            inputs.append([Row([start, *asked, end], [*w, end]) for w in windows])
        return inputs

    def scores(
        self,
        pairs: Sequence[tuple[str, str]],
        batch_size: int = 64,
        progress: bool = False,
    ) -> np.ndarray:
        """Logits of `(query, document)` pairs, (pairs,): of each its best window's."""
        inputs = self.windows(pairs)
        rows = [row for windows in inputs for row in windows]
        order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
        logits, device = np.zeros(len(rows), np.float32), self.model.device
        self.model.eval()
        batches = range(0, len(order), batch_size)
        for begin in tqdm(batches, desc="re-ranking", disable=not progress):
            chosen = order[begin : begin + batch_size]
            batch = collate([rows[i] for i in chosen], self.tokenizer.pad_token_id)
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.inference_mode(), models.autocast(device, self.bf16):
                logits[chosen] = relevance(self.model, batch).float().cpu().numpy()
        firsts = np.cumsum([0, *(len(windows) for windows in inputs)])[:-1]
        return np.maximum.reduceat(logits, firsts) if pairs else logits

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), tokenizer, settings, report and card."""
        self.model.save(folder)
        settings = {
            key: getattr(self, key) for key in ("first", "max_length", "report")
        }
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        (Path(folder) / SETTINGS_FILE).write_text(text, encoding="utf-8")
        if self.report:
            model_card.write(folder, "rerank", self.report)


def is_reranker(folder: str | Path) -> bool:
    """Whether a folder holds a cross-encoder that `CrossEncoder.save` wrote."""
    return (Path(folder) / SETTINGS_FILE).is_file()


def load(
    folder: str | Path, device: str | None = None, bf16: bool = True
) -> CrossEncoder:
    """Load a cross-encoder from its folder.

    Raises:
        BadInput: the folder holds none, or a damaged one.
    """
    model = Relevance.load(folder, replace(RECIPE, device=device, bf16=bf16))
    path = Path(folder) / SETTINGS_FILE
    with models.undamaged(path):
        settings = json.loads(path.read_text(encoding="utf-8"))
        return CrossEncoder(model, bf16=bf16, **settings)


class Reranked:
    """A ranker: a cross-encoder reads a first stage's best again; both orders count.

    They are fused by rank: alone, a cross-encoder of few training queries stayed below
    the first stage on dev, and together they were above it. What stands below `depth`
    keeps its order, below.
    """

    def __init__(
        self,
        first: Ranker,
        cross: CrossEncoder,
        documents: Mapping[str, str],
        depth: int = DEPTH,
        progress: bool = False,
    ):
        self.first, self.cross, self.documents = first, cross, documents
        self.depth, self.progress = depth, progress

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`."""
        found = self.first.rank(queries, max(k, self.depth))
        heads = [[document for document, _ in row[: self.depth]] for row in found]
        pairs = [
            (query, self.documents[document])
            for query, head in zip(queries, heads, strict=True)
            for document in head
        ]
        scores = iter(self.cross.scores(pairs, progress=self.progress).tolist())
        rankings = []
        for row, head in zip(found, heads, strict=True):
            scored = [(document, next(scores)) for document in head]
            scored.sort(key=lambda item: -item[1])
            rankings.append(fuse([row, scored], k))
        return rankings


# -------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Group:
    """A query with an answer, which comes first, and with documents that are none."""

    rows: list[Row]

    def __len__(self) -> int:
        return 1  # equal for all, so that batches are random


def check_size(collection: Beir, judgements: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse a collection that is too small to learn from.

    Raises:
        BadInput: fewer documents than a group needs.
    """
    for query, right in relevant(judgements).items():
        wrong = len(collection.documents) - len(right)
        if wrong < NEGATIVES:
            raise BadInput(
                f"a re-ranker needs {NEGATIVES} documents beside every answer, and "
                f"query {query!r} has {wrong}: add documents to corpus.jsonl"
            )


def make_groups(
    cross: CrossEncoder,
    collection: Beir,
    judgements: Mapping[str, Mapping[str, int]],
    first: Ranker,
    seed: int,
) -> list[Group]:
    """Put each query's best answers among documents that are none.

    Those are drawn from the first stage's best, and among these from documents that
    answer *some* training query: one that never does would tell itself by that alone,
    and so would, later, every document that training never saw as an answer. Only where
    these are too few the rest of the collection fills up. Of a long text the beginning
    is learned from.

    Args:
        cross: whose tokenizer is used.
        collection: the texts.
        judgements: of the training queries.
        first: the first stage.
        seed: of the draws.

    Raises:
        BadInput: fewer documents than a group needs.
    """
    check_size(collection, judgements)
    answers, dice = relevant(judgements), random.Random(seed)
    seen = {document: None for right in answers.values() for document in sorted(right)}
    asked = [collection.queries[query] for query in answers]
    chosen = []
    for (query, right), ranking in zip(
        answers.items(), first.rank(asked, MINED), strict=True
    ):
        hard = [document for document, _ in ranking if document in seen]
        hard = [document for document in hard if document not in right][:DEPTH]
        for answer in sorted(best(judgements[query])):
            wrong: list[str] = []
            for pool in (hard, seen, collection.documents):
                if missing := NEGATIVES - len(wrong):
                    free = [d for d in pool if d not in right and d not in wrong]
                    wrong += dice.sample(free, min(missing, len(free)))
            chosen.append((query, [answer, *wrong]))
    pairs = [
        (collection.queries[query], collection.documents[document])
        for query, documents in chosen
        for document in documents
    ]
    rows = [windows[0] for windows in cross.windows(pairs)]
    size = NEGATIVES + 1
    return [Group(rows[i : i + size]) for i in range(0, len(rows), size)]


def collate(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the longest: ids, mask and token types, (rows, token)."""
    width = max(len(row.query) + len(row.window) for row in rows)
    columns = []
    for query, window in rows:
        rest = [0] * (width - len(query) - len(window))
        real, second = [1] * (width - len(rest)), [1] * len(window)
        ids = [*query, *window, *(pad_id for _ in rest)]
        columns.append((ids, real + rest, [0] * len(query) + second + rest))
    names = ("input_ids", "attention_mask", "token_type_ids")
    parts = zip(*columns, strict=True)
    return dict(zip(names, map(torch.tensor, parts), strict=True))


def relevance(
    model: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The logit of every row of a batch, (rows,)."""
    return by_length(lambda *rows: model(*rows).squeeze(-1), *batch.values())


def group_loss(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of picking the answer out of its group.

    Args:
        logits: (groups, 1 + NEGATIVES), the answer's first. Knowing nothing costs the
            logarithm of the group's size.
    """
    return cross_entropy(
        logits.float(), torch.zeros(len(logits)).long().to(logits.device)
    )


def train(
    collection: Beir,
    first: Ranker,
    name: str,
    *,
    model: str | Path | None = None,
    settings: training.Settings = RECIPE,
    folder: str | Path | None = None,
    progress: bool = True,
) -> CrossEncoder:
    """Fine-tune a cross-encoder to re-rank a first stage; keep the weights best on dev.

    Args:
        collection: needs `train` judgements; without `dev` ones a seeded tenth of the
            training queries is held out.
        first: the first stage.
        name: what the command line calls it.
        model: an encoder to start from, see `models.resolve`.
        settings: see `training.Settings`.
        folder: where checkpoints go; an interrupted run found there is resumed.
        progress: show a bar on standard error.

    Raises:
        BadInput: no training judgement, or too few documents.
    """
    learn, dev = learn_and_dev(collection.judgements, settings.seed)
    base = models.origin(model)  # before it could be moved
    scorer = Relevance(["relevance"], model, settings)
    cross = CrossEncoder(scorer, name, bf16=settings.bf16)
    checked = Beir(collection.documents, collection.queries, {"dev": dev})
    stage = Remembered(first)
    before = mean(evaluate(stage, checked, "dev"))
    measured: dict[float, dict[str, float]] = {}

    def dev_metrics() -> dict[str, float]:
        reranked = Reranked(stage, cross, collection.documents)
        return mean(evaluate(reranked, checked, "dev"))

    def dev_score() -> float:
        metrics = dev_metrics()
        return measured.setdefault(metrics["ndcg@10"], metrics)["ndcg@10"]

    def batch_loss(network, batch):
        return group_loss(relevance(network, batch).view(-1, NEGATIVES + 1))

    groups = make_groups(cross, collection, learn, first, settings.seed)
    cross.history = training.fit(
        cross.model,
        groups,
        lambda batch: collate(
            [r for g in batch for r in g.rows], cross.tokenizer.pad_token_id
        ),
        batch_loss,
        settings,
        evaluate=dev_score,
        folder=None if folder is None else Path(folder),
        progress=progress,
    )
    # Evaluated before the run was interrupted: evaluate once more.
    metrics = measured.get(cross.history.best) or dev_metrics()
    held_out = "dev" not in collection.judgements
    cross.report = {
        "metrics": metrics,
        "before": before,
        "settings": {
            **asdict(settings),
            "device": cross.model.device.type,
            "model": str(model or models.SHIPPED),
            "base": base,
            "versions": models.versions(),
            "first": _shown(name),
            "depth": DEPTH,
            "negatives": NEGATIVES,
            "train_groups": len(groups),
            "dev_queries": len(dev),
            "dev": "a seeded tenth of the training queries" if held_out else "given",
        },
    }
    return cross


def _shown(name: str) -> str:
    """A system's name without the folders above it, which are nobody's business."""
    kind, colon, path = name.rpartition(":")
    return kind + colon + Path(path).name
