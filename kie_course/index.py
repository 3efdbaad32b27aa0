"""The index: the vectors of all documents, stored once, searched for every question.

A document longer than the model is stored as several passages, and scores as its best
one: MaxP, Dai and Callan (2019), *Deeper text understanding for IR*. Taught in lesson
07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kie_course import BadInput
from kie_course.encoder import BiEncoder
from kie_course.ranking import Ranking


@dataclass(frozen=True)
class Index:
    """Documents, and the vectors of their passages.

    Attributes:
        ids: of the documents.
        owners: (passages,), the place in `ids` of the document that each is part of.
        vectors: a FAISS index by inner product, (passages, hidden).
    """

    ids: list[str]
    owners: np.ndarray
    vectors: Any


def build_index(
    model: BiEncoder, documents: Mapping[str, str], progress: bool = False
) -> Index:
    """Encode documents and put them into an exact index, in memory."""
    import faiss

    rows, counts = model.encode_passages(list(documents.values()), progress=progress)
    vectors = faiss.IndexFlatIP(rows.shape[1])
    vectors.add(rows)
    return Index(list(documents), owners(counts), vectors)


def owners(counts: Sequence[int]) -> np.ndarray:
    """For each passage the place of its document, from the passages of each."""
    return np.repeat(np.arange(len(counts)), counts)


def search(model: BiEncoder, index: Index, query: str, k: int = 10) -> Ranking:
    """The `k` documents that hold the passages nearest to the query.

    Raises:
        BadInput: an empty question.
    """
    if not query.strip():
        raise BadInput("the question is empty; type a few words")
    return nearest(index, model.encode([query]), k)[0]


def nearest(index: Index, queries: np.ndarray, k: int) -> list[Ranking]:
    """For each query's vector the `k` documents with the best passages.

    Args:
        index: where to search.
        queries: (queries, hidden).
        k: documents; fewer are found where there are fewer.
    """
    most = int(np.bincount(index.owners).max())
    # So many passages are surely of k documents, even if all of each come first.
    passages = min(k * most, len(index.owners))
    rankings = []
    for scores, found in zip(*index.vectors.search(queries, passages), strict=True):
        best: dict[str, float] = {}
        for score, passage in zip(scores, found, strict=True):
            best.setdefault(index.ids[index.owners[passage]], float(score))
        rankings.append(list(best.items())[:k])
    return rankings
