"""The index: all documents' vectors, stored once, searched for every question.

Taught in lesson 07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kie_course import BadInput
from kie_course.encoder import BiEncoder
from kie_course.ranking import Ranking


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
    return search_all(model, index, [query], k)[0]


def search_all(model, index: Index, queries: Sequence[str], k: int) -> list[Ranking]:
    scores, found = index.vectors.search(model.encode(queries), min(k, len(index.ids)))
    return [
        [(index.ids[i], float(s)) for i, s in zip(row, values, strict=True)]
        for row, values in zip(found, scores, strict=True)
    ]
