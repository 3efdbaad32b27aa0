"""A way of searching by its name on the command line. Taught in lesson 07."""

from __future__ import annotations

from collections.abc import Mapping

from kie_course import BadInput, rerank
from kie_course.encoder import named
from kie_course.ranking import Ranker
from kie_course.retrieval import Bm25, Dense, Hybrid, Tfidf

BY_WORDS = {"bm25": Bm25, "tfidf": Tfidf}
KNOWN = (*BY_WORDS, "pretrained")
"""Names that are no folders, also where such a folder lies."""


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
            folder, a re-ranker's folder (it knows its first stage), or `hybrid:FOLDER`
            (BM25 and that model, fused).
        documents: `{id: text}`.
        device: see `models.device`.
        bf16: bfloat16 where the device has it.
        progress: show a bar while documents are encoded.

    Raises:
        BadInput: no such system or folder.
    """
    if system in BY_WORDS:
        return BY_WORDS[system](documents)
    if rerank.is_reranker(system):
        cross = rerank.load(system, device, bf16)
        first = ranker(cross.first, documents, device, bf16, progress)
        return rerank.Reranked(first, cross, documents, progress=progress)
    name = system.removeprefix("hybrid:")
    if not name:
        raise BadInput(f"{system!r}: name the model to fuse, as in hybrid:FOLDER")
    dense = Dense(named(name, device, bf16), documents, progress)
    return Hybrid(Bm25(documents), dense) if name != system else dense
