"""The index: passages, exact search, and a folder that survives everything."""

import copy
import itertools
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import DOCUMENTS, encoder_folder

from kie_course import BadInput, bench, index, retrieval
from kie_course import encoder as encoder_module

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder() -> retrieval.BiEncoder:
    return retrieval.load(device="cpu", bf16=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> retrieval.BiEncoder:
    """Reads eight pieces at once, so that a dozen words are several passages."""
    folder = encoder_folder(tmp_path_factory.mktemp("tiny"))
    return replace(retrieval.load(folder, "cpu", bf16=False), max_length=8)


# ------------------------------------------------------------------------- in memory


def test_search_finds_what_brute_force_finds(encoder):
    index = retrieval.build_index(encoder, DOCUMENTS)
    question = "Where does the cat sleep?"
    matrix = encoder.encode(list(DOCUMENTS.values()))
    scores = matrix @ encoder.encode([question])[0]
    best = [list(DOCUMENTS)[i] for i in np.argsort(-scores)]
    for k in (1, 3, 5, 50):
        found = retrieval.search(encoder, index, question, k)
        assert [document for document, _ in found] == best[:k]
        np.testing.assert_allclose(
            [score for _, score in found], sorted(scores, reverse=True)[:k], atol=1e-5
        )
    (ranking,) = retrieval.Dense(encoder, DOCUMENTS).rank([question])
    assert [document for document, _ in ranking] == best  # the empty document too


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_empty_question_is_an_error(encoder, question):
    index = retrieval.Index(["d1"], np.array([0]), None)
    with pytest.raises(BadInput, match="question is empty"):
        retrieval.search(encoder, index, question)


# ------------------------------------------- passages of what the model cannot read


@given(st.integers(0, 200), st.integers(1, 40), st.integers(0, 50))
def test_windows_cover_a_text_in_full_and_overlap(length, width, overlap):
    windows = encoder_module.cut(range(length), width, overlap)
    assert {i for window in windows for i in window} == set(range(length))
    if length <= width:
        assert windows == [list(range(length))]
    else:
        assert {len(window) for window in windows} == {width}
    shared = min(overlap, width // 4)
    for one, following in itertools.pairwise(windows):
        assert following == list(range(following[0], following[-1] + 1))
        assert one[0] < following[0] <= one[-1] + 1 - shared
    # No window too many: each reaches further than the one before the last would.
    assert len(windows) <= 1 + max(0, math.ceil((length - width) / (width - shared)))


def test_passages_are_the_text_with_special_tokens(encoder):
    long = " ".join(f"bell {number}" for number in range(200))
    short, windows, empty = encoder.passages(["A bell.", long, ""])
    assert [short[0], empty[0]] == encoder.tokenize(["A bell.", ""])
    assert len(short) == len(empty) == 1 < len(windows)
    assert windows[0] == encoder.tokenize([long])[0]
    start, end = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
    assert {(w[0], w[-1], len(w)) for w in windows} == {(start, end, 256)}
    assert set(windows[0][-65:-1]) <= set(windows[1])
    assert encoder.passages([]) == []


@pytest.mark.parametrize("typed", ["[SEP]", "[PAD]", "[CLS]"])
def test_special_tokens_that_somebody_typed_are_text(encoder, typed):
    special = encoder.tokenizer.convert_tokens_to_ids(typed)
    text = f"see {typed} there"
    ((window,),) = encoder.passages([text])
    assert special not in window[1:-1]
    assert encoder.tokenize([text]) == [window]


LONG = {
    "end": "word " * 500 + "The cat sleeps on the warm stove.",
    "none": "word " * 700,
    "short": "Trains are late.",
    "middle": "word " * 300 + "Bells ring at noon." + " word" * 300,
}


@pytest.mark.parametrize("k", [1, 2, 3, 4, 9])
def test_a_document_scores_as_its_best_passage(encoder, k):
    dense = retrieval.Dense(encoder, LONG)
    queries = ["Where does the cat sleep?", "When do bells ring?", "train", "word"]
    for query, ranking in zip(queries, dense.rank(queries, k), strict=True):
        (vector,) = encoder.encode([query])
        best = {}
        for name, text in LONG.items():
            ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
            texts = [encoder.tokenizer.decode(w) for w in encoder_module.cut(ids, 254)]
            best[name] = float((encoder.encode(texts) @ vector).max())
        expected = sorted(best, key=best.get, reverse=True)[:k]
        assert [document for document, _ in ranking] == expected
        for document, score in ranking:
            assert score == pytest.approx(best[document], abs=1e-4)
    first, second = (ranking[0][0] for ranking in dense.rank(queries[:2], 1))
    assert (first, second) == ("end", "middle")


def test_many_queries_are_searched_a_few_at_a_time(encoder, monkeypatch):
    monkeypatch.setattr(index, "QUERIES", 2)
    dense = retrieval.Dense(encoder, LONG)
    queries = ["cat", "bells", "train", "word", "noon"]
    alone = [dense.rank([query], 3)[0] for query in queries]
    for one, other in zip(dense.rank(queries, 3), alone, strict=True):
        assert dict(one) == pytest.approx(dict(other), abs=1e-6)
    assert all(len(ranking) == 3 for ranking in alone)


# --------------------------------------------------------------------------- on disk

NOUNS = (
    *("cat", "dog", "stove", "train", "bell", "tower"),
    *("noon", "river", "bridge", "apple", "violin", "snow"),
)


def texts(count: int) -> dict[str, str]:
    """Documents of one to three passages of the tiny encoder, one of them empty."""
    rows = {f"d{i}": " ".join(NOUNS[i % 7 : i % 7 + i % 12]) for i in range(count)}
    return rows | {"d0": "", "line": 'two\nlines \u2028 and a "quote"'}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(index, "SHARD", 4)


@pytest.fixture
def watched(tiny, monkeypatch) -> list[str]:
    """The texts that the tiny encoder is given to encode."""
    seen, encode = [], type(tiny).encode_passages

    def watch(self, given, **options):
        seen.extend(given)
        return encode(self, given, **options)

    monkeypatch.setattr(type(tiny), "encode_passages", watch)
    return seen


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same_rankings(one: list, other: list) -> None:
    for row, same in zip(one, other, strict=True):
        assert [document for document, _ in row] == [document for document, _ in same]
        np.testing.assert_allclose([s for _, s in row], [s for _, s in same], atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_an_index_on_disk_finds_what_one_in_memory_finds(
    tiny, tmp_path, small_shards, k
):
    documents = texts(18)
    assert index.extend(tmp_path, tiny, "pretrained", documents.items) == 19
    stored = index.open_index(tmp_path, tiny)
    assert len(list(tmp_path.glob("0*"))) == 5
    assert len(stored.owners) > len(stored.ids) == 19
    queries = tiny.encode(["cat dog stove", "noon river", ""])
    in_memory = index.build_index(tiny, documents)
    assert stored.ids == in_memory.ids
    np.testing.assert_array_equal(stored.owners, in_memory.owners)
    on_disk = index.nearest(stored, queries, k)
    same_rankings(on_disk, index.nearest(in_memory, queries, k))


def test_vectors_are_mapped_into_memory_not_read(tiny, tmp_path):
    index.extend(tmp_path, tiny, "pretrained", texts(9).items)
    stored = index.open_index(tmp_path, tiny)
    assert stored.vectors.ntotal == len(stored.owners)
    mapped = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "00000" / "vectors.faiss") in mapped


def test_the_texts_come_back(tiny, tmp_path, small_shards):
    documents = texts(10)
    index.extend(tmp_path, tiny, "pretrained", documents.items)
    some = ["d9", "line", "d0"]
    assert index.read_texts(tmp_path, some) == {key: documents[key] for key in some}


def test_only_new_documents_are_encoded(tiny, tmp_path, small_shards, watched):
    documents = texts(6)
    index.extend(tmp_path, tiny, "pretrained", documents.items)
    before = tree(tmp_path)
    assert sorted(watched) == sorted(documents.values())
    assert index.extend(tmp_path, tiny, "pretrained", documents.items) == 0
    assert tree(tmp_path) == before
    watched.clear()

    # The new ones alone, or among the old ones, in any order: it makes no difference.
    more = {"n1": "bell tower", **documents, "n2": "snow"}
    assert index.extend(tmp_path, tiny, "pretrained", more.items) == 2
    assert index.extend(tmp_path, tiny, "pretrained", {"n3": "apple"}.items) == 1
    assert watched == ["bell tower", "snow", "apple"]
    assert before.items() <= tree(tmp_path).items()
    stored = index.open_index(tmp_path, tiny)
    assert stored.ids == [*documents, "n1", "n2", "n3"]
    (ranking,) = index.nearest(stored, tiny.encode(["snow"]), 1)
    assert ranking == [("n2", pytest.approx(1, abs=1e-6))]


def test_documents_are_read_as_they_are_needed(tiny, tmp_path, small_shards, watched):
    """Never more of them in memory than a shard holds."""
    waiting = []

    def read():
        for number in range(12):
            waiting.append(number - len(watched))
            yield f"d{number}", f"{NOUNS[number]} {number}"

    index.extend(tmp_path, tiny, "pretrained", read)
    checked, encoded = waiting[:12], waiting[12:]
    assert checked == list(range(12))  # once through, to check and to count
    assert max(encoded) < 4


def test_a_text_that_changed_under_its_id_is_refused(tiny, tmp_path, watched):
    index.extend(tmp_path, tiny, "pretrained", {"a": "cat", "b": "dog"}.items)
    before = tree(tmp_path)
    watched.clear()
    changed = {"new": "snow", "b": "bell"}
    with pytest.raises(BadInput, match=r"another text under the id 'b': give"):
        index.extend(tmp_path, tiny, "pretrained", changed.items)
    assert (watched, tree(tmp_path)) == ([], before)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: next(m.model.parameters()).data[7, 3].add_(1e-3),
        lambda m: setattr(m, "normalize", False),
        lambda m: setattr(m, "max_length", 9),
    ],
    ids=["one weight", "not normalised", "longer windows"],
)
def test_another_model_is_refused(tiny, tmp_path, change):
    index.extend(tmp_path, tiny, "pretrained", {"a": "cat"}.items)
    other = replace(tiny, model=copy.deepcopy(tiny.model))
    index.open_index(tmp_path, other)
    with torch.no_grad():
        change(other)
    with pytest.raises(BadInput, match=r"another model .*use pretrained as it was"):
        index.open_index(tmp_path, other)
    with pytest.raises(BadInput, match="another model"):
        index.extend(tmp_path, other, "pretrained", {"b": "dog"}.items)
    assert len(index.open_index(tmp_path, tiny).ids) == 1


def test_the_fingerprint_is_that_of_every_copy_and_precision(tiny, tmp_path):
    tiny.save(tmp_path)
    loaded = retrieval.load(tmp_path, "cpu")
    assert loaded.fingerprint() == tiny.fingerprint()
    half = replace(loaded, model=loaded.model.to(torch.bfloat16))
    assert half.fingerprint() != tiny.fingerprint()


CHILD = """
import sys; sys.path.insert(0, {tests!r})
import time, torch
import test_index as t
torch.set_num_threads(1)
t.index.SHARD = 4
build = t.index.build_index
t.index.build_index = lambda *given: time.sleep({pause}) or build(*given)
model = t.replace(t.retrieval.load({model!r}, "cpu", bf16=False), max_length=8)
t.index.extend(t.Path({folder!r}), model, "pretrained", t.texts(40).items)
"""


def test_killed_without_a_chance_to_tidy_up(tiny, tmp_path):
    """`kill -9` between two shards and in the middle of one."""
    model, folder = tmp_path / "model", tmp_path / "index"
    tiny.save(model)
    given = {"tests": str(Path(__file__).parent), "model": str(model)}
    script = CHILD.format(**given, folder=str(folder), pause=0.2)
    child = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not (folder / "00002").is_dir() and time.monotonic() < deadline:
        assert child.poll() is None, "ended before it wrote three shards"
        time.sleep(0.01)
    child.kill()
    child.wait()
    before = tree(folder)
    written = len(list(folder.glob("0*")))
    assert 3 <= written < 11
    (folder / f"{written:05}.part").mkdir()  # and half a shard
    (folder / f"{written:05}.part" / "table.json").write_text('{"ids": [')
    stamps = {file: os.stat(folder / file).st_mtime_ns for file in before}

    script = CHILD.format(**given, folder=str(folder), pause=0)
    subprocess.run([sys.executable, "-c", script], check=True)
    assert all(os.stat(folder / file).st_mtime_ns == t for file, t in stamps.items())
    script = CHILD.format(**given, folder=str(tmp_path / "undisturbed"), pause=0)
    subprocess.run([sys.executable, "-c", script], check=True)
    assert tree(folder) == tree(tmp_path / "undisturbed")


def test_killed_before_the_first_shard(tiny, tmp_path):
    (tmp_path / "index.part").write_text('{"mod')
    assert index.extend(tmp_path, tiny, "pretrained", {"a": "cat"}.items) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": "mine"}, "holds files that no index wrote"),
        ({"index.json": "{"}, r"index\.json is damaged"),
    ],
)
def test_a_folder_of_others_is_left_alone(tiny, tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = tree(tmp_path)
    with pytest.raises(BadInput, match=message):
        index.extend(tmp_path, tiny, "pretrained", {"a": "cat"}.items)
    assert tree(tmp_path) == before


def test_what_is_no_index_or_an_empty_one_is_refused(tiny, tmp_path):
    with pytest.raises(BadInput, match="holds no index: make one"):
        index.open_index(tmp_path, tiny)
    index.extend(tmp_path, tiny, "pretrained", {}.items)
    with pytest.raises(BadInput, match="holds no document yet"):
        index.open_index(tmp_path, tiny)


DAMAGES = {
    "index.json": ["{", "[]", '{"model": "pretrained"}'],
    "00000/table.json": ["{", '{"ids": []}', None],
    "00000/vectors.faiss": ["x", None],
    "00000/documents.jsonl": ["", '"half a li', None],
}


@pytest.mark.parametrize(
    ("file", "content"),
    [(f, content) for f, rows in DAMAGES.items() for content in rows],
)
def test_a_damaged_index_is_refused(tiny, tmp_path, file, content):
    index.extend(tmp_path, tiny, "pretrained", {"a": "cat"}.items)
    path = tmp_path / file
    path.unlink() if content is None else path.write_text(content)

    def use() -> None:
        index.open_index(tmp_path, tiny)
        index.read_texts(tmp_path, ["a"])

    with pytest.raises(BadInput, match="is damaged"):
        use()


def test_a_shard_of_other_vectors_is_refused(tiny, tmp_path, small_shards):
    index.extend(tmp_path, tiny, "pretrained", texts(5).items)
    first, second = (tmp_path / f"0000{i}" / "vectors.faiss" for i in (0, 1))
    second.write_bytes(first.read_bytes())
    with pytest.raises(BadInput, match="is damaged"):
        index.open_index(tmp_path, tiny)


def test_a_full_disk_is_told(tiny, tmp_path, monkeypatch):
    import faiss

    def fail(*given):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(faiss, "write_index", fail)
    with pytest.raises(OSError, match=r"00000\.part cannot be written: No space"):
        index.extend(tmp_path, tiny, "pretrained", {"a": "cat"}.items)


def test_a_file_for_a_folder_is_refused(tiny, tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(BadInput, match="out is a file"):
        index.extend(tmp_path / "out", tiny, "pretrained", {"a": "cat"}.items)


# ----------------------------------------------------------------------- compression


def test_a_compressed_index_is_smaller_and_nearly_agrees(encoder):
    documents = {f"d{i}": f"{a} and {b}" for i, (a, b) in enumerate(pairs(NOUNS))}
    exact = retrieval.build_index(encoder, documents)
    queries = encoder.encode(NOUNS)
    assert index.agreement(exact, exact, queries) == 1
    bits = {"SQfp16": 16, "SQ8": 8, "SQ4": 4}
    small = {kind: index.compress(exact, kind) for kind in bits}
    for kind, other in small.items():
        numbers = index.size(other) - 10_000
        assert numbers < len(documents) * 384 * bits[kind] / 8 < index.size(other)
        assert other.ids == exact.ids
    shares = [index.agreement(exact, other, queries) for other in small.values()]
    assert shares[0] >= shares[1] > shares[2] > 0.5
    assert shares[1] > 0.9


def pairs(words: list[str]):
    return itertools.permutations(words, 2)


def test_agreement_is_the_share_of_the_exact_best(tiny):
    exact = retrieval.build_index(tiny, dict(zip("abcd", NOUNS, strict=False)))
    other = replace(exact, ids=["a", "b", "x", "y"])
    assert index.agreement(exact, other, tiny.encode(["cat"]), k=4) == 0.5


def test_the_benchmark_compares_every_kind(encoder, monkeypatch):
    documents = {f"d{i}": f"{a} and {b}" for i, (a, b) in enumerate(pairs(NOUNS))}
    monkeypatch.setattr(bench, "COMPRESSED", ("SQ8", "SQ4"))
    figures = bench.compressed(encoder, documents, list(NOUNS))
    assert figures["exact"]["recall@10"] == 1
    sizes = [figures[kind]["bytes"] for kind in ("exact", "SQ8", "SQ4")]
    assert sizes == sorted(sizes, reverse=True)
    lines = bench.table({"index": figures}).splitlines()
    assert [line.split()[1] for line in lines] == ["exact", "SQ8", "SQ4"]


def test_a_benchmark_without_its_data_says_so(monkeypatch):
    monkeypatch.delenv("KIE_DATA_DIR", raising=False)
    figures = bench.run(["index"])
    assert "KIE_DATA_DIR" in bench.table(figures)
