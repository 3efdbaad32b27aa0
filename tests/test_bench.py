"""`kie-course bench` on sizes of a test: every part's figures, and that they are right.

No test here asserts a time.
"""

import importlib.util
import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import DOCUMENTS, SHAPE
from transformers import BertConfig

from kie_course import bench, models, ner, speed, training
from kie_course.data import Beir

pytestmark = pytest.mark.usefixtures("one_thread")

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
TINY = BertConfig(vocab_size=50, max_position_embeddings=32, **SHAPE)
QUERIES = {
    "q1": "When does the bell ring?",
    "q2": "Who sleeps on the stove?",
    "q3": "Is the stove warm?",
    "q4": "Are trains late?",
    "q5": "Where is the cat?",
}
JUDGED = {
    "q1": {"d1": 1},
    "q2": {"d2": 1},
    "q3": {"d2": 2, "d4": 1},
    "q4": {"d5": 1},
    "q5": {"d2": 1, "d4": 1},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """One round, a tiny model, on the CPU."""
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(models, "device", lambda choice=None: torch.device("cpu"))


@pytest.fixture
def tiny(monkeypatch):
    """What is timed instead of the shipped encoder."""
    model = speed.token_classifier(TINY)
    monkeypatch.setattr(speed, "token_classifier", lambda config=None: model)
    return model


def test_ways_take_turns_and_the_median_counts(monkeypatch):
    ticks = iter([0, 1, 1, 3, 10, 15, 20, 27, 30, 32, 40, 41])  # a: 1 5 2, b: 2 7 1
    monkeypatch.setattr(speed, "clock", lambda: next(ticks))
    order = []
    ways = {name: lambda name=name: order.append(name) for name in "ab"}
    assert speed.interleaved(ways, rounds=3) == {"a": 2, "b": 2}
    assert order == list("ababab")


# -------------------------------------------------------------------------- throughput


def test_operations_of_a_token_by_hand():
    """Two layers of 16: attention 4 (16 16 + 16), feed-forward, norms; a head of 13."""
    layer = 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * (16 + 16)
    head = 16 * speed.LABELS + speed.LABELS
    by_hand = 6 * (2 * layer + head) + 12 * 2 * 16 * 8
    assert speed.operations_per_token(speed.token_classifier(TINY), 8) == by_hand


def test_bert_base_has_85_million_parameters_outside_its_embeddings():
    """And BERT-large 302 million: so 0.51 and 1.8 billion operations and attention."""
    for name, millions in (("BERT-base", 85), ("BERT-large", 302)):
        config = BertConfig(**speed.CONFIGURATIONS[name])
        config.num_labels = speed.LABELS
        with torch.device("meta"):
            from transformers import BertForTokenClassification

            model = BertForTokenClassification(config)
        assert round(speed.operations_per_token(model, 0) / 6e6) == millions


def test_the_first_steps_are_not_timed(monkeypatch):
    model = speed.token_classifier(TINY)
    seen, ticks = [], iter([100.0, 103.5])

    def clock():
        seen.append(steps["taken"])
        return next(ticks)

    steps = Counter()

    def count(*_):
        steps["taken"] += 1

    model.register_forward_hook(count)
    monkeypatch.setattr(speed, "clock", clock)
    windows = speed.random_windows(10, 6, 50)
    assert speed.seconds_of_steps(model, windows, 2) == 3.5
    assert seen == [speed.WARM, 5]


def test_throughput_is_tokens_times_operations_over_the_product(tiny, monkeypatch):
    monkeypatch.setattr(speed, "WIDTHS", {"cpu": 32})
    monkeypatch.setattr(speed, "LENGTH", 8)
    monkeypatch.setattr(speed, "TRAINING_STEPS", {"cpu": 2})
    monkeypatch.setattr(speed, "BATCHES", {"cpu": (2,)})
    monkeypatch.setattr(speed, "CONFIGURATIONS", {"BERT-large": {}, "small": {}})
    monkeypatch.setattr(speed, "seconds_of_steps", lambda *_: 0.5)
    figures = bench.run(["throughput"])["throughput"]
    reached = figures["matrix product"]["operations_per_second"]
    operations = 64 * speed.operations_per_token(tiny, 8)
    assert figures["small, batch 2"] == {
        "tokens_per_second": 64,  # 2 steps of 2 texts of 8, in half a second
        "operations_per_second": operations,
        "share_of_product": operations / reached,
    }
    assert "CUDA" in figures["BERT-large"]["skipped"]
    lines = bench.table({"throughput": json.loads(json.dumps(figures))}).splitlines()
    assert len(lines) == 3
    assert "64 tokens a second" in lines[2]


# ------------------------------------------------------------------------------ growth


def test_longer_texts_come_in_batches_of_as_many_tokens(tiny, monkeypatch):
    monkeypatch.setattr(speed, "LENGTHS", (4, 8))
    monkeypatch.setattr(speed, "TOKENS", 16)
    monkeypatch.setattr(speed, "STEPS", 3)
    monkeypatch.setattr(speed, "SENTENCES", (2, 4))
    shapes, epochs = [], []

    def steps(model, windows, batch):
        shapes.append((len(windows), len(windows[0]), batch))
        return 2.0

    monkeypatch.setattr(speed, "seconds_of_steps", steps)
    monkeypatch.setattr(
        speed, "one_epoch", lambda m, windows, b: epochs.append(windows)
    )
    figures = bench.run(["growth"])["growth"]
    taken = speed.WARM + 3
    assert shapes == [(taken * 4, 4, 4), (taken * 2, 8, 2)]
    for name in ("4 word pieces", "8 word pieces"):
        assert figures[name] == {"tokens_per_second": 3 * 16 / 2.0}
    for name, windows in zip(("2 sentences", "4 sentences"), epochs, strict=True):
        row, tokens = figures[name], sum(map(len, windows))
        assert row["tokens_per_second"] * row["seconds"] == pytest.approx(tokens)
    assert len(bench.table({"growth": figures}).splitlines()) == 4


# ------------------------------------------------------------------------------ encode


def test_vectors_of_both_libraries_agree(monkeypatch):
    monkeypatch.delenv("KIE_DATA_DIR", raising=False)
    few = Beir(DOCUMENTS | {"long": "bell " * 400}, {}, {})
    monkeypatch.setattr(speed.data, "load_retrieval", lambda: few)
    figures = bench.run(["encode"])["encode"]
    assert figures[speed.THEIRS]["difference"] == 0
    assert figures[speed.THEIRS]["speed"] == 1
    assert 0 < figures["ours, fp32"]["difference"] < 1e-5
    if "ours, bf16" in figures:
        assert 1e-5 < figures["ours, bf16"]["difference"] < 0.03
    assert len(bench.table({"encode": figures}).splitlines()) == len(figures)


# --------------------------------------------------------------------------- retriever


def test_both_trainers_take_as_many_steps():
    pytest.importorskip("datasets", reason="sentence-transformers[train] is missing")
    collection = Beir(DOCUMENTS, QUERIES, {"train": JUDGED, "test": JUDGED})
    figures = bench.tuned_retrievers(collection)
    # six pairs (two best answers of q5) in one batch, three epochs
    assert {row["steps"] for row in figures.values()} == {3}
    assert set(figures) >= {bench.THEIRS, "ours, fp32"}
    assert figures[bench.THEIRS]["speed"] == 1
    for row in figures.values():
        assert 0 < row["ndcg@10"] <= 1
    assert "3 steps" in bench.table({"retriever": figures})


def test_our_loop_over_pairs_learns_and_counts_its_steps():
    collection = Beir(DOCUMENTS, QUERIES, {"train": JUDGED})
    settings = training.Settings(epochs=2, batch_size=4, bf16=False)
    untouched = bench.retrieval.load(bf16=False).encode(["The bell rings."])
    encoder, steps = bench._our_pairs(collection, settings)
    assert steps == 4  # six pairs: two batches an epoch
    assert abs(encoder.encode(["The bell rings."]) - untouched).max() > 1e-3


def test_without_its_package_a_part_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    figures = bench.run(["retriever"])
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    (needed,) = project["optional-dependencies"]["bench"]
    assert f'pip install "{needed.partition(">")[0]}"' in bench.table(figures)


# ---------------------------------------------------------------------------- training


def test_every_recipe_of_training_counts_its_padding(monkeypatch):
    monkeypatch.setattr(bench, "SENTENCES", 40)
    monkeypatch.setattr(ner, "evaluate", lambda tagger, test: {"f1": 0.5})
    short = training.Settings(epochs=1)
    monkeypatch.setattr(training, "Settings", lambda: short)
    figures = bench.run(["training"])["training"]
    padded = {name: row["padded"] for name, row in figures.items()}
    ours = padded["ours, fp32"]
    assert 1 <= ours < padded["Trainer, dynamic padding"] < padded[bench.ARTICLE]
    windows = bench._prepare(_training_sentences(), 0)[1]
    real = sum(map(len, windows))
    assert padded[bench.ARTICLE] == bench.ARTICLE_WIDTH * len(windows) / real
    if "ours, bf16" in figures:
        assert padded["ours, bf16"] == ours
        grouped = "Trainer, grouped by length"
        assert padded[f"{grouped}, bf16"] == padded[grouped]
    assert f"{ours:.3f} tokens per real one" in bench.table({"training": figures})


def _training_sentences():
    sentences = bench.data.load_sentences("train")
    bench.random.Random(bench.SEED).shuffle(sentences)
    return sentences[:40]
