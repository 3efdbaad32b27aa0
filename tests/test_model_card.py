"""The card beside the weights: what a stranger must know of a run, and no more."""

import copy

import pytest
import transformers
from huggingface_hub import ModelCard
from tiny import encoder_folder

from kie_course import model_card, models

NER = {
    "dev": {
        "precision": 0.5,
        "recall": 0.25,
        "f1": 1 / 3,
        "per_type": {
            "LOC": {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 40},
            "PER": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
        },
        "invalid_labels": 3,
    },
    "seconds": 12.5,
    "settings": {
        "seed": 20,
        "model": "/somewhere/private/base",
        "types": ["LOC", "PER"],
        "sentences_longer_than_model": {"train": 1, "dev": 0},
        "resumed_at": None,
        "base": {
            "name": "base",
            "hub": "somebody/base",
            "weights": {"model.safetensors": "ab" * 32},
            "licence": "mit",
        },
        "files": {"train": {"name": "a|b.conll", "bytes": 7, "sha256": "cd" * 32}},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
    },
}
METRICS = {"ndcg@10": 0.7, "mrr@10": 0.6, "recall@100": 0.9}
RETRIEVAL = {
    "metrics": METRICS,
    "before": {**METRICS, "ndcg@10": 0.5},
    "settings": {**NER["settings"], "types": []},
}


def changed(report: dict, **settings) -> dict:
    other = copy.deepcopy(report)
    other["settings"].update(settings)
    return other


def test_header_is_what_the_hub_reads():
    card = ModelCard(model_card.text("ner", NER)).data
    assert card.base_model == "somebody/base"
    assert card.license == "mit"
    assert card.pipeline_tag == "token-classification"
    found = {
        (r.dataset_split, r.metric_type): r.metric_value for r in card.eval_results
    }
    assert found == {
        ("dev", "precision"): 0.5, ("dev", "recall"): 0.25, ("dev", "f1"): 0.3333,
    }  # fmt: skip
    card = ModelCard(model_card.text("retrieval", RETRIEVAL)).data
    assert card.pipeline_tag == "sentence-similarity"
    found = {
        (r.dataset_split, r.metric_type): r.metric_value for r in card.eval_results
    }
    assert found == {("dev", name): value for name, value in METRICS.items()}


def test_base_without_hub_or_licence_is_not_made_up():
    base = {**NER["settings"]["base"], "hub": None, "licence": None}
    text = model_card.text("ner", changed(NER, base=base))
    assert ModelCard(text).data.base_model is None
    assert ModelCard(text).data.license is None
    assert "| licence | not stated" in text


def test_card_holds_data_base_scores_and_limits():
    text = model_card.text("ner", NER)
    assert "# Names in text: LOC, PER\n" in text
    assert rf"| train | a\|b.conll | 7 | {'cd' * 32} |" in text
    assert f"| SHA-256 of model.safetensors | {'ab' * 32} |" in text
    assert "| dev | 0.500 | 0.250 | 0.333 | – |" in text
    assert "| dev, PER | 0.000 | 0.000 | 0.000 | 0 |" in text
    assert "| sentences_longer_than_model | train 1, dev 0 |" in text
    assert "- Scores on dev that rest on few names: PER 0.\n" in text
    assert "No score on test data" in text
    assert "No score on test data" not in model_card.text(
        "ner", {**NER, "test": METRICS}
    )
    text = model_card.text("retrieval", RETRIEVAL)
    assert "| dev, untouched | 0.500 |" in text
    assert "| dev | 0.700 |" in text


def test_card_depends_on_neither_time_nor_folder_nor_interruption():
    other = changed(NER, model="/elsewhere/base", resumed_at=100)
    other["seconds"] = 99.0
    assert model_card.text("ner", other) == model_card.text("ner", NER)
    assert "private" not in model_card.text("ner", NER)
    assert model_card.text("ner", changed(NER, seed=21)) != model_card.text("ner", NER)


def test_card_of_a_run_from_memory_says_so():
    report = {"dev": {"f1": 0.5}, "settings": dict(NER["settings"])}
    del report["settings"]["files"]
    text = model_card.text("ner", report)
    assert "Trained from memory" in text
    assert "| dev | 0.500 |" in text
    steps = [{"step": 0, **METRICS}, {"step": 9, **METRICS}]
    text = model_card.text("retrieval", {**report, "dev": steps})
    assert "| dev, step 9 | 0.700 |" in text


# ----------------------------------------------------------------- where a base is from


def test_shipped_encoder_is_named_as_published():
    expected = {
        "name": "all-MiniLM-L6-v2",
        "hub": "sentence-transformers/all-MiniLM-L6-v2",
        "weights": {"model.safetensors": models.SHIPPED_SHA256},
        "licence": "apache-2.0",
    }
    assert models.origin() == models.origin(models.SHIPPED) == expected


def test_local_folder_is_named_without_the_folders_above_it(tmp_path):
    folder = encoder_folder(tmp_path / "mine")
    weights = {"model.safetensors": models.sha256(folder / "model.safetensors")}
    expected = {"name": "mine", "hub": None, "weights": weights, "licence": None}
    assert models.origin(folder) == expected


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: cc-by-4.0\ntags:\n- x\n---\n# It", "cc-by-4.0"),
        ("---\ntags:\n- x\n---\nlicense: mit", None),
        ("license: mit", None),
        ("---\nlicense:\n- mit\n---\n", None),
        ("", None),
        (b"---\nname: Lom\xe9\nlicense: mit\n---\n", "mit"),
    ],
)
def test_licence_is_what_the_header_of_the_base_states(card, licence, tmp_path):
    folder = encoder_folder(tmp_path)
    raw = card if isinstance(card, bytes) else card.encode()
    (folder / "README.md").write_bytes(raw)
    assert models.origin(folder)["licence"] == licence


def test_model_of_a_hub_is_found_where_it_was_stored(tmp_path, monkeypatch):
    folder = encoder_folder(tmp_path)
    stored = str(folder / "config.json")
    monkeypatch.setattr(transformers.utils, "cached_file", lambda *a, **k: stored)
    found = models.origin("somebody/a-bert")
    assert found["name"] == found["hub"] == "somebody/a-bert"
    assert list(found["weights"]) == ["model.safetensors"]
