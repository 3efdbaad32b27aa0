"""Retrieval: BM25, TF-IDF, a bi-encoder and its fine-tuning, fusion, evaluation.

Taught in lesson 07. A *ranker* is built from documents (`{id: text}`) and has one
method, `rank(queries, k)`: for each query the best `k` as `(document id, score)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from kie_course import SEED, BadInput, model_card, models, training
from kie_course.data import Beir, answered
from kie_course.ner import hold_out

Ranking = list[tuple[str, float]]
"""Document ids with their scores, best first."""

MAX_LENGTH = 256
"""Word pieces of a text that are read: what the shipped encoder was trained with."""

STRETCH = 1.15
"""Texts go through the encoder together if the longest is at most this much longer."""


class Ranker(Protocol):
    """Anything that ranks documents."""

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """For each query the best `k` documents, best first."""
        ...


def _top(ids: Sequence[str], scores: np.ndarray, k: int) -> Ranking:
    """The best `k` documents with a score above 0; ties in the order of the ids."""
    best = np.argsort(-scores, kind="stable")[:k]
    return [(ids[i], float(scores[i])) for i in best if scores[i] > 0]


class Bm25:
    """BM25 in Lucene's form with English stop words (`bm25s`).

    Robertson and Zaragoza (2009), *The Probabilistic Relevance Framework*.
    """

    def __init__(self, documents: Mapping[str, str], k1: float = 1.5, b: float = 0.75):
        import bm25s

        self.ids = list(documents)
        self._tokenize = lambda texts: bm25s.tokenize(
            texts, return_ids=False, show_progress=False
        )
        self._index = bm25s.BM25(k1=k1, b=b)
        tokens = self._tokenize(list(documents.values()))
        # Without a single word there is nothing to index, and nothing to find.
        self._empty = not any(tokens)
        if not self._empty:
            self._index.index(tokens, show_progress=False)

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`; documents that share no word with the query are left out."""
        tokens = self._tokenize(list(queries))
        known = [[w for w in words if w in self._vocabulary] for words in tokens]
        return [
            _top(self.ids, self._index.get_scores(words), k) if words else []
            for words in known
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


@dataclass
class BiEncoder:
    """An encoder that turns a text, query or document alike, into one vector.

    Attributes:
        model: a Transformers encoder.
        tokenizer: the fast tokenizer that belongs to it.
        temperature: of the softmax it was or will be tuned with.
        normalize: unit vectors, so that a dot product is a cosine.
        max_length: word pieces read of a text; the rest is cut off.
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
        """Word-piece ids of texts, special tokens included, cut to `max_length`."""
        if not texts:
            return []
        texts = list(texts)
        rows = self.tokenizer(texts, truncation=True, max_length=self.limit)
        return rows["input_ids"]

    @property
    def limit(self) -> int:
        """Word pieces that are read of a text: `max_length`, or the model's own."""
        return min(self.max_length, models.max_length(self.model))

    def embed(self, ids: torch.Tensor, mask: torch.Tensor, model=None) -> torch.Tensor:
        """Vectors (batch, hidden) of padded word-piece ids (batch, token)."""
        # A text that occurs twice is encoded once.
        both, back = torch.unique(torch.cat([ids, mask], 1), dim=0, return_inverse=True)
        ids, mask = both.chunk(2, dim=1)
        # Texts of similar length go together, each group trimmed to its longest.
        lengths = mask.sum(dim=1).tolist()
        groups = of_similar_length(lengths)
        parts = []
        for rows in groups:
            width = lengths[rows[-1]]
            group = ids[rows, :width], mask[rows, :width]
            hidden = (model or self.model)(*group).last_hidden_state
            parts.append(mean_pool(hidden.float(), group[1]))
        place = torch.tensor([row for rows in groups for row in rows]).argsort()
        pooled = torch.cat(parts)[place.to(ids.device)][back]
        return normalize(pooled, dim=-1) if self.normalize else pooled

    def encode(
        self, texts: Sequence[str], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """Vectors of texts, (texts, hidden), 32-bit floats, in the order given."""
        ids = self.tokenize(texts)
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
    model = models.load("AutoModel", name, add_pooling_layer=False)
    own = source / "retrieval.json"
    tokenizer = models.load_tokenizer(name)
    encoder = BiEncoder(model.to(models.device(device)), tokenizer, bf16=bf16)
    if own.is_file():
        try:
            settings = json.loads(own.read_text(encoding="utf-8"))
            encoder = replace(encoder, **settings)
        except (ValueError, TypeError) as error:
            raise BadInput(f"{own} is damaged: train the model again") from error
    return encoder


@dataclass(frozen=True)
class Index:
    """Documents' ids and their vectors in an exact inner-product index (FAISS)."""

    ids: list[str]
    vectors: Any


def build_index(
    model: BiEncoder, documents: Mapping[str, str], progress: bool = False
) -> Index:
    """Encode documents and put them into an index."""
    import faiss

    vectors = faiss.IndexFlatIP(model.model.config.hidden_size)
    vectors.add(model.encode(list(documents.values()), progress=progress))
    return Index(list(documents), vectors)


def search(model: BiEncoder, index: Index, query: str, k: int = 10) -> Ranking:
    """The `k` documents whose vectors score highest with the query's.

    Raises:
        BadInput: an empty question.
    """
    if not query.strip():
        raise BadInput("the question is empty; type a few words")
    return _search(model, index, [query], k)[0]


def _search(model, index: Index, queries: Sequence[str], k: int) -> list[Ranking]:
    scores, found = index.vectors.search(model.encode(queries), min(k, len(index.ids)))
    return [
        [(index.ids[i], float(s)) for i, s in zip(row, values, strict=True)]
        for row, values in zip(found, scores, strict=True)
    ]


class Dense:
    """A ranker made of a bi-encoder and the index of its documents."""

    def __init__(
        self, model: BiEncoder, documents: Mapping[str, str], progress: bool = False
    ):
        self.model = model
        self.index = build_index(model, documents, progress)

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`."""
        return _search(self.model, self.index, queries, k)


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


def ranker(
    system: str,
    documents: Mapping[str, str],
    device: str | None = None,
    bf16: bool = True,
    progress: bool = False,
) -> Ranker:
    """Build a ranker by name.

    Args:
        system: `bm25`, `tfidf`, `pretrained` (the shipped encoder, untouched), a model
            folder, or `hybrid:FOLDER` (BM25 and that model, fused).
        documents: `{id: text}`.
        device: see `models.device`.
        bf16: bfloat16 where the device has it.
        progress: show a bar while documents are encoded.

    Raises:
        BadInput: no such system or folder.
    """
    if system in ("bm25", "tfidf"):
        return {"bm25": Bm25, "tfidf": Tfidf}[system](documents)
    kind, _, name = system.rpartition("hybrid:")
    if not name or kind:
        raise BadInput(f"{system!r}: name the model to fuse, as in hybrid:FOLDER")
    if name != "pretrained" and not Path(name).is_dir():
        raise BadInput(
            f"{name}: no such model folder; name one, or bm25, tfidf, pretrained"
        )
    model = load(None if name == "pretrained" else name, device, bf16)
    dense = Dense(model, documents, progress)
    return Hybrid(Bm25(documents), dense) if "hybrid:" in system else dense


METRICS = ("ndcg@10", "mrr@10", "recall@100")


def per_query(
    rankings: Mapping[str, Ranking], judgements: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """nDCG@10, MRR@10 and recall@100 of every judged query (`ir-measures`).

    nDCG's gain is linear in the grade (trec_eval's form). A query without hits scores
    0. Equal scores are no ties here: the order of the ranking counts.

    Args:
        rankings: query id to ranking.
        judgements: query id to `{document id: grade}`; a grade above 0 is relevant.

    Returns:
        `{metric: {query id: value}}`, over all queries with a relevant document.
    """
    import ir_measures
    from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

    names = dict(zip((nDCG @ 10, RR @ 10, R @ 100), METRICS, strict=True))
    judged = answered(judgements)
    qrels = [Qrel(q, d, g) for q, grades in judged.items() for d, g in grades.items()]
    run = [
        ScoredDoc(q, document, -float(place))
        for q in judged
        for place, (document, _) in enumerate(rankings.get(q, ()))
    ]
    values: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for item in ir_measures.iter_calc(list(names), qrels, run):
        values[names[item.measure]][item.query_id] = float(item.value)
    return values


def evaluate(
    ranker: Ranker, collection: Beir, split: str
) -> dict[str, dict[str, float]]:
    """Rank the judged queries of a split and score them; see `per_query`.

    Raises:
        BadInput: the collection has no such split, or nothing relevant in it.
    """
    if split not in collection.judgements:
        have = ", ".join(collection.judgements)
        raise BadInput(f"there is no qrels/{split}.tsv here; there is: {have}")
    judged = collection.judgements[split]
    if not answered(judged):
        raise BadInput(
            f"no query of qrels/{split}.tsv has a relevant document: nothing to score"
        )
    ranked = ranker.rank([collection.queries[q] for q in judged], 100)
    return per_query(dict(zip(judged, ranked, strict=True)), judged)


def mean(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean of every metric over the queries."""
    return {name: float(np.mean(list(row.values()))) for name, row in values.items()}


def paired_interval(
    first: Mapping[str, float],
    second: Mapping[str, float],
    seed: int = SEED,
    samples: int = 10_000,
) -> tuple[float, float, float]:
    """Mean of `first - second` over queries, with a 95 % paired bootstrap interval.

    Queries are drawn with replacement; both systems are always compared on the same
    draw. Taught in lesson 07; Sakai (2006).

    Args:
        first: query id to value of one system.
        second: the same of the other, for the same queries.
        seed: of the draws.
        samples: draws.

    Returns:
        `(mean difference, lower end, upper end)`.
    """
    difference = np.array([first[q] - second[q] for q in first])
    dice = np.random.default_rng(seed)
    draws = [
        difference[dice.integers(len(difference), size=len(difference))].mean()
        for _ in range(samples)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


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
    answers = {
        query: frozenset(d for d, grade in grades.items() if grade > 0)
        for query, grades in answered(judgements).items()
    }
    texts = [collection.queries[q] for q in answers]
    wrong: dict[str, list[str]] = {query: [] for query in answers}
    if hard_negatives:
        ranked = Bm25(collection.documents).rank(texts, hard_negatives + 10)
        for (query, relevant), ranking in zip(answers.items(), ranked, strict=True):
            others = [document for document, _ in ranking if document not in relevant]
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
            relevant,
        )
        for query, relevant in answers.items()
        for answer in sorted(best(judgements[query]))
    ]


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


def learn_and_dev(
    judgements: Mapping[str, Mapping], seed: int
) -> tuple[Mapping[str, Mapping[str, int]], Mapping[str, Mapping[str, int]]]:
    """Give the judgements to learn from, and those that choose the best epoch.

    Where no split is called `dev`, a seeded tenth of the answered training queries is
    held out.

    Raises:
        BadInput: one answered query only, and no dev.
    """
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

    The untouched encoder is evaluated too: tuning cannot end below it on dev.

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
    if "train" not in collection.judgements:
        raise BadInput("there is no qrels/train.tsv here: nothing to train on")
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

    def batch_loss(network, batch):
        query, document = (
            encoder.embed(batch[f"{k}_ids"], batch[f"{k}_attention_mask"], network)
            for k in ("query", "document")
        )
        return loss(query, document, batch["known"], temperature)

    pairs = make_pairs(encoder, collection, learn, hard_negatives)
    encoder.history = training.fit(
        encoder.model,
        pairs,
        lambda batch: collate(batch, encoder.tokenizer.pad_token_id),
        batch_loss,
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
