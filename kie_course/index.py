"""The index: the vectors of all documents, stored once, searched for every question.

A document longer than the model is stored as several passages, and scores as its best
one: MaxP, Dai and Callan (2019), *Deeper text understanding for IR*. Taught in lesson
07.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kie_course import BadInput
from kie_course.encoder import BiEncoder
from kie_course.ranking import Ranking

QUERIES = 64
"""Queries searched for at once: each may find every passage of a long document."""


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
    for start in range(0, len(queries), QUERIES):
        rows = index.vectors.search(queries[start : start + QUERIES], passages)
        for scores, found in zip(*rows, strict=True):
            best: dict[str, float] = {}
            for score, passage in zip(scores, found, strict=True):
                best.setdefault(index.ids[index.owners[passage]], float(score))
                if len(best) == k:
                    break
            rankings.append(list(best.items()))
    return rankings


# ------------------------------------------------------------------ an index on disk
#
# index.json         which model made it
# 00000/             a shard: never half a shard, it is written beside and moved in
#   vectors.faiss    (passages, hidden), memory-mapped when searched
#   table.json       of each document its id, its number of passages, its text's hash
#   documents.jsonl  the texts, a line each

SHARD = 512
"""Documents of a shard: so many are encoded again, at most, if a run is killed."""

Documents = Callable[[], Iterable[tuple[str, str]]]
"""Reads all documents, `(id, text)`, from the first one on, each time it is called."""


def extend(
    folder: Path,
    model: BiEncoder,
    name: str,
    documents: Documents,
    progress: bool = False,
) -> int:
    """Add to an index on disk the documents that it does not hold yet.

    They are read, encoded and written shard by shard, so a collection need not fit
    into memory. A run that was killed goes on when it is repeated.

    Args:
        folder: a new one, or one that this function wrote.
        model: encodes the new documents, and no others.
        name: where the model can be loaded from: its folder, or `pretrained`.
        documents: see `Documents`; for a dictionary, its `items`.
        progress: show a bar on standard error.

    Returns:
        how many documents were added.

    Raises:
        BadInput: the folder holds something else, or an index by another model; a
            document's text is not the one that is indexed under its id.
    """
    _begin(folder, model, name)
    hashes = dict(_column(_shards(folder), "hashes"))
    total = sum(1 for _ in _new(folder, documents, hashes))
    rest = _new(folder, documents, hashes)
    with tqdm(total=total, desc="documents", disable=not progress) as bar:
        while shard := dict(itertools.islice(rest, SHARD)):
            _write_shard(folder, model, shard)
            bar.update(len(shard))
    return total


def _begin(folder: Path, model: BiEncoder, name: str) -> None:
    """Note the model in a new folder, or check that the folder's index is by it."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: name a folder")
    if (folder / "index.json").is_file():
        check_model(folder, model)
        for half in folder.glob("*.part"):
            shutil.rmtree(half)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if {file.name for file in folder.iterdir()} - {"index.part"}:
        raise BadInput(f"{folder} holds files that no index wrote: name a new folder")
    path = name if name == "pretrained" else str(Path(name).absolute())
    text = json.dumps({"model": path, "fingerprint": model.fingerprint()}, indent=1)
    (folder / "index.part").write_text(text, encoding="utf-8")
    os.replace(folder / "index.part", folder / "index.json")


def model_of(folder: Path) -> str:
    """Where the model of an index can be loaded from: a folder, or `pretrained`.

    Raises:
        BadInput: there is no index in this folder.
    """
    return _description(folder)["model"]


def check_model(folder: Path, model: BiEncoder) -> None:
    """Refuse a model whose vectors cannot be compared with those of an index.

    Raises:
        BadInput: there is no index in this folder, or another model made it.
    """
    made_by = _description(folder)
    if made_by["fingerprint"] != model.fingerprint():
        raise BadInput(
            f"{folder} was made by another model than this one: use {made_by['model']} "
            "as it was then, or index the documents again, into a new folder"
        )


def _description(folder: Path) -> dict[str, str]:
    if not (folder / "index.json").is_file():
        raise BadInput(f"{folder} holds no index: make one by retrieval index")
    return _read_json(folder / "index.json", "model", "fingerprint")


def _read_json(path: Path, *keys: str) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(value, dict) or not value.keys() >= set(keys):
        raise _damaged(path)
    return value


def _damaged(path: Path) -> BadInput:
    return BadInput(f"{path} is damaged: index the documents again, into a new folder")


def _shards(folder: Path) -> list[Path]:
    return sorted(shard for shard in folder.iterdir() if shard.name.isdigit())


def _column(shards: Iterable[Path], name: str) -> Iterator[tuple[str, Any]]:
    """Every document's id, and what the tables hold of it under a name."""
    for shard in shards:
        table = _table(shard)
        yield from zip(table["ids"], table[name], strict=True)


def _table(shard: Path) -> dict[str, list]:
    return _read_json(shard / "table.json", "ids", "passages", "hashes")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _new(folder: Path, documents: Documents, hashes: Mapping[str, str]) -> Iterator:
    """The documents that are not in the index; those that are must be the same."""
    for key, text in documents():
        if key not in hashes:
            yield key, text
        elif hashes[key] != _hash(text):
            raise BadInput(
                f"{folder} holds another text under the id {key!r}: give the new one "
                "an id of its own, or index all documents again, into a new folder"
            )


def _write_shard(folder: Path, model: BiEncoder, shard: Mapping[str, str]) -> None:
    import faiss

    target = folder / f"{len(_shards(folder)):05}"
    half = target.with_suffix(".part")
    half.mkdir()
    part = build_index(model, shard)
    passages = np.bincount(part.owners, minlength=len(shard)).tolist()
    hashes = [_hash(text) for text in shard.values()]
    table = {"ids": part.ids, "passages": passages, "hashes": hashes}
    try:
        faiss.write_index(part.vectors, str(half / "vectors.faiss"))
    except RuntimeError as error:  # a full disk, say
        raise OSError(f"{half} cannot be written: {error}") from error
    (half / "table.json").write_text(json.dumps(table), encoding="utf-8")
    with (half / "documents.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in shard.values())
    os.replace(half, target)


def open_index(folder: Path, model: BiEncoder) -> Index:
    """Open an index on disk; its vectors stay there, and are read as they are needed.

    Args:
        folder: which `extend` wrote.
        model: with which the queries will be encoded.

    Raises:
        BadInput: no index, an empty or a damaged one, or one by another model.
    """
    import faiss

    check_model(folder, model)
    shards = _shards(folder)  # once: another process may be adding to the index
    table = list(_column(shards, "passages"))
    if not table:
        raise BadInput(f"{folder} holds no document yet: repeat retrieval index")
    vectors = faiss.IndexShards(model.model.config.hidden_size, False, True)
    for shard in shards:
        file = str(shard / "vectors.faiss")
        try:
            vectors.add_shard(faiss.read_index(file, faiss.IO_FLAG_MMAP_IFC))
        except RuntimeError as error:
            raise _damaged(shard) from error
    ids, counts = zip(*table, strict=True)
    if vectors.ntotal != sum(counts):
        raise _damaged(folder)
    return Index(list(ids), owners(counts), vectors)


def read_texts(folder: Path, ids: Iterable[str]) -> dict[str, str]:
    """The texts of some documents of an index on disk, by id."""
    wanted, texts = set(ids), {}
    for shard in _shards(folder):
        here = _table(shard)["ids"]
        if wanted.isdisjoint(here):
            continue
        try:
            with (shard / "documents.jsonl").open(encoding="utf-8") as lines:
                pairs = zip(here, lines, strict=True)
                texts |= {key: json.loads(line) for key, line in pairs if key in wanted}
        except (OSError, ValueError) as error:
            raise _damaged(shard / "documents.jsonl") from error
    return texts


# ----------------------------------------------------------------------- compression


def compress(index: Index, kind: str) -> Index:
    """The same index with shorter vectors, whose scores are a little off.

    Args:
        index: exact, in memory.
        kind: FAISS's word for how: `SQfp16`, `SQ8` and `SQ4` store 16, 8 and 4 bits a
            number; `PQ48` stores 48 bytes a vector, each the number of a pattern that
            occurs in the collection (Jégou, Douze and Schmid 2011).
    """
    import faiss

    rows = index.vectors.reconstruct_n(0, index.vectors.ntotal)
    vectors = faiss.index_factory(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    vectors.train(rows)
    vectors.add(rows)
    return replace(index, vectors=vectors)


def agreement(exact: Index, other: Index, queries: np.ndarray, k: int = 10) -> float:
    """Share of the exact best `k` documents that another index finds: recall@k.

    Args:
        exact: the index to agree with.
        other: of the same documents.
        queries: (queries, hidden).
        k: documents a query.
    """
    pairs = zip(nearest(exact, queries, k), nearest(other, queries, k), strict=True)
    shares = [len(dict(a).keys() & dict(b).keys()) / len(a) for a, b in pairs]
    return float(np.mean(shares))


def size(index: Index) -> int:
    """Bytes that the vectors of an index take."""
    import faiss

    return faiss.serialize_index(index.vectors).nbytes
