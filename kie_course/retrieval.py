"""Retrieval: BM25, TF-IDF, a bi-encoder and its fine-tuning, fusion.

Taught in lesson 07. Beside it: `ranking` (what a ranking is, and how good), `encoder`
(texts become vectors), `index` (vectors stored and searched). Their names can be
had from here too. `rerank` (the cross-encoder) and `systems` (a way of searching by its
name) build on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from kie_course import BadInput, models, training
from kie_course.data import Beir, answered
from kie_course.encoder import (
    STRETCH,
    BiEncoder,
    load,
    mean_pool,
    of_similar_length,
    pad,
)
from kie_course.index import Index, build_index, nearest, search
from kie_course.ner import hold_out
from kie_course.ranking import (
    METRICS,
    Ranker,
    Ranking,
    evaluate,
    mean,
    paired_interval,
    per_query,
)

__all__ = [
    "METRICS",
    "RECIPE",
    "STRETCH",
    "BiEncoder",
    "Bm25",
    "Dense",
    "Hybrid",
    "Index",
    "Pair",
    "Ranker",
    "Ranking",
    "Tfidf",
    "build_index",
    "collate",
    "evaluate",
    "fuse",
    "info_nce",
    "learn_and_dev",
    "load",
    "make_pairs",
    "mean",
    "mean_pool",
    "of_similar_length",
    "pad",
    "paired_interval",
    "per_query",
    "relevant",
    "search",
    "train",
    "words",
]


def _top(ids: Sequence[str], scores: np.ndarray, k: int) -> Ranking:
    """The best `k` documents with a score above 0; ties in the order of the ids."""
    best = np.argsort(-scores, kind="stable")[:k]
    return [(ids[i], float(scores[i])) for i in best if scores[i] > 0]


def words(texts: Sequence[str]) -> list[list[str]]:
    """The words of texts, in lower case, without English stop words (`bm25s`)."""
    import bm25s

    return bm25s.tokenize(list(texts), return_ids=False, show_progress=False)


class Bm25:
    """BM25 in Lucene's form with English stop words (`bm25s`).

    Robertson and Zaragoza (2009), *The Probabilistic Relevance Framework*.
    """

    def __init__(self, documents: Mapping[str, str], k1: float = 1.5, b: float = 0.75):
        import bm25s

        self.ids = list(documents)
        self._index = bm25s.BM25(k1=k1, b=b)
        tokens = words(list(documents.values()))
        # Without a single word there is nothing to index, and nothing to find.
        self._empty = not any(tokens)
        if not self._empty:
            self._index.index(tokens, show_progress=False)

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`; documents that share no word with the query are left out."""
        known = [[w for w in row if w in self._vocabulary] for row in words(queries)]
        return [
            _top(self.ids, self._index.get_scores(row), k) if row else []
            for row in known
        ]

    @property
    def _vocabulary(self) -> dict:
        return {} if self._empty else self._index.vocab_dict


class Tfidf:
    """Cosine of TF-IDF vectors with logarithmic term frequency (scikit-learn)."""

    def __init__(self, documents: Mapping[str, str]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.ids = list(documents)
        self._vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
        try:
            self._matrix = self._vectorizer.fit_transform(documents.values())
        except ValueError:  # scikit-learn refuses an empty vocabulary
            self._matrix = None

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`; documents that share no word with the query are left out."""
        if self._matrix is None:
            return [[] for _ in queries]
        scores = self._vectorizer.transform(queries) @ self._matrix.T
        return [_top(self.ids, row.toarray().ravel(), k) for row in scores]


def info_nce(
    query: torch.Tensor,
    document: torch.Tensor,
    known: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """InfoNCE: cross-entropy of picking a query's own document out of the batch.

    Document `i` belongs to query `i`; further documents are hard negatives. With unit
    vectors the softmax below *is* the cosine attention of lesson 03. Taught in lesson
    07; van den Oord, Li and Vinyals (2018).

    Args:
        query: (n, hidden).
        document: (m, hidden), m >= n.
        known: (n, m), true where a document is known to answer the query; such
            documents are no negatives.
        temperature: divides the scores.
    """
    n, m = len(query), len(document)
    scores = query @ document.T / temperature  # (n, m)
    own = torch.eye(n, m, dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(known & ~own, -torch.inf)
    return cross_entropy(scores, torch.arange(n, device=scores.device))


class Dense:
    """A ranker made of a bi-encoder and the index of its documents."""

    def __init__(
        self, model: BiEncoder, documents: Mapping[str, str], progress: bool = False
    ):
        self.model = model
        self.index = build_index(model, documents, progress)

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`."""
        return nearest(self.index, self.model.encode(queries), k)


def fuse(rankings: Sequence[Ranking], k: int = 100, constant: int = 60) -> Ranking:
    """Reciprocal rank fusion: a document scores the sum of 1 / (constant + rank).

    Cormack, Clarke and Buettcher (2009). Taught in lesson 07.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, (document, _) in enumerate(ranking, start=1):
            scores[document] = scores.get(document, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda item: -item[1])[:k]


class Hybrid:
    """Rank fusion of several rankers."""

    def __init__(self, *rankers: Ranker):
        self.rankers = rankers

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`."""
        ranked = [ranker.rank(queries, max(k, 100)) for ranker in self.rankers]
        return [fuse(rankings, k) for rankings in zip(*ranked, strict=True)]


@dataclass(frozen=True)
class Pair:
    """A query, a document that answers it, and documents that do not, as piece ids."""

    query: list[int]
    documents: list[list[int]]
    document_ids: list[str]
    answers: frozenset[str]

    def __len__(self) -> int:
        # Equal for all, so batches are random. By length, the questions of one document
        # would come together, and they are no negatives for one another.
        return 1


def make_pairs(
    model: BiEncoder,
    collection: Beir,
    judgements: Mapping[str, Mapping[str, int]],
    hard_negatives: int,
) -> list[Pair]:
    """Pair each query with its best answers, and with BM25's best wrong documents.

    Answers of a lower grade are no partners, but no negatives either.

    Args:
        model: whose tokenizer is used.
        collection: the texts.
        judgements: of the training queries.
        hard_negatives: wrong documents a pair: BM25's best that nobody judged relevant.
    """
    answers = relevant(judgements)
    texts = [collection.queries[q] for q in answers]
    wrong: dict[str, list[str]] = {query: [] for query in answers}
    if hard_negatives:
        ranked = Bm25(collection.documents).rank(texts, hard_negatives + 10)
        for (query, right), ranking in zip(answers.items(), ranked, strict=True):
            others = [document for document, _ in ranking if document not in right]
            wrong[query] = others[:hard_negatives]
    used = sorted({d for q, ids in answers.items() for d in (*ids, *wrong[q])})
    document_ids = dict(
        zip(used, model.tokenize([collection.documents[d] for d in used]), strict=True)
    )
    query_ids = dict(zip(answers, model.tokenize(texts), strict=True))
    return [
        Pair(
            query_ids[query],
            [document_ids[d] for d in (answer, *wrong[query])],
            [answer, *wrong[query]],
            right,
        )
        for query, right in answers.items()
        for answer in sorted(best(judgements[query]))
    ]


def relevant(
    judgements: Mapping[str, Mapping[str, int]],
) -> dict[str, frozenset[str]]:
    """For every query with an answer, all documents graded above 0."""
    return {
        query: frozenset(d for d, grade in grades.items() if grade > 0)
        for query, grades in answered(judgements).items()
    }


def best(grades: Mapping[str, int]) -> list[str]:
    """The documents of the highest grade."""
    top = max(grades.values())
    return [document for document, grade in grades.items() if grade == top]


def collate(pairs: Sequence[Pair], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad a batch: queries, their answers, then all hard negatives as documents."""
    order = [(p.documents[0], p.document_ids[0]) for p in pairs]
    order += [
        item
        for p in pairs
        for item in zip(p.documents[1:], p.document_ids[1:], strict=True)
    ]
    query, query_mask = pad([p.query for p in pairs], pad_id)
    document, document_mask = pad([ids for ids, _ in order], pad_id)
    return {
        "query_ids": query,
        "query_attention_mask": query_mask,
        "document_ids": document,
        "document_attention_mask": document_mask,
        "known": torch.tensor([[d in p.answers for _, d in order] for p in pairs]),
    }


def pair_loss(
    encoder: BiEncoder, loss: Callable[..., torch.Tensor] = info_nce
) -> Callable[..., torch.Tensor]:
    """What `training.fit` minimises over batches that `collate` gave."""

    def of_batch(network, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        query, document = (
            encoder.embed(batch[f"{k}_ids"], batch[f"{k}_attention_mask"], network)
            for k in ("query", "document")
        )
        return loss(query, document, batch["known"], encoder.temperature)

    return of_batch


def learn_and_dev(
    judgements: Mapping[str, Mapping], seed: int
) -> tuple[Mapping[str, Mapping[str, int]], Mapping[str, Mapping[str, int]]]:
    """Give the judgements to learn from, and those that choose the best epoch.

    Where no split is called `dev`, a seeded tenth of the answered training queries is
    held out.

    Raises:
        BadInput: no training judgement; one answered query only, and no dev.
    """
    if "train" not in judgements:
        raise BadInput("there is no qrels/train.tsv here: nothing to train on")
    learn = judgements["train"]
    if "dev" in judgements:
        return learn, judgements["dev"]
    learn = answered(learn)
    if len(learn) < 2:
        raise BadInput(
            "training needs at least two queries with a relevant document, "
            "or qrels/dev.tsv"
        )
    rest, tenth = hold_out(list(learn), seed)
    return {q: learn[q] for q in rest}, {q: learn[q] for q in tenth}


RECIPE = training.Settings(learning_rate=1e-4, epochs=3, batch_size=32)
"""Settings that dev chose for retrieval."""


def train(
    collection: Beir,
    *,
    model: str | Path | None = None,
    settings: training.Settings = RECIPE,
    temperature: float = 0.05,
    normalize: bool = True,
    hard_negatives: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
    loss: Callable[..., torch.Tensor] = info_nce,
) -> BiEncoder:
    """Fine-tune a bi-encoder with InfoNCE; keep the weights best on dev.

    The untouched encoder is evaluated too: tuning cannot end below it on dev. Of
    a document longer than the model, its first window is learned from.

    Args:
        collection: needs `train` judgements; without `dev` ones a seeded tenth of the
            training queries is held out.
        model: an encoder, see `models.resolve`.
        settings: see `training.Settings`.
        temperature: of the softmax over the batch's documents.
        normalize: cosine (true) or dot product (false).
        hard_negatives: BM25's best wrong documents, for every pair.
        folder: where checkpoints go; an interrupted run found there is resumed.
        progress: show a bar on standard error.
        loss: see `info_nce`.

    Raises:
        BadInput: no training judgement.
    """
    learn, dev = learn_and_dev(collection.judgements, settings.seed)
    held_out = "dev" not in collection.judgements
    encoder = load(model, settings.device, settings.bf16)
    base = models.origin(model)  # before it could be moved
    encoder.temperature, encoder.normalize = temperature, normalize
    checked = Beir(collection.documents, collection.queries, {"dev": dev})

    measured: list[dict[str, float]] = []

    def dev_score() -> float:
        scores = evaluate(Dense(encoder, checked.documents), checked, "dev")
        measured.append(mean(scores))
        return measured[-1]["ndcg@10"]

    pairs = make_pairs(encoder, collection, learn, hard_negatives)
    encoder.history = training.fit(
        encoder.model,
        pairs,
        lambda batch: collate(batch, encoder.tokenizer.pad_token_id),
        pair_loss(encoder, loss),
        settings,
        evaluate=dev_score,
        evaluate_first=True,
        folder=None if folder is None else Path(folder),
        progress=progress,
    )
    # A resumed run lists only what it evaluated itself.
    steps = [step for step, _ in encoder.history.dev][-len(measured) or None :]
    encoder.report = {
        "dev": [{"step": s, **m} for s, m in zip(steps, measured, strict=False)],
        "settings": {
            **asdict(settings),
            "device": encoder.model.device.type,
            "model": str(model or models.SHIPPED),
            "temperature": temperature,
            "hard_negatives": hard_negatives,
            "train_pairs": len(pairs),
            "dev_queries": len(dev),
            "dev": "a seeded tenth of the training queries" if held_out else "given",
            "base": base,
            "versions": models.versions(),
        },
    }
    return encoder
