"""Two processes that share every batch take the steps of one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import encoder_folder
from torch.testing import assert_close

from kie_course import corpus

LAUNCHERS = {
    "one process": [sys.executable, "-m"],
    "torchrun": [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nproc_per_node", "2", "-m"),
    ],
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A little data of both kinds, and an encoder without dropout."""
    folder = tmp_path_factory.mktemp("desk")
    encoder = encoder_folder(folder / "encoder")
    config = json.loads((encoder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config))
    train, dev, _ = corpus.export("conll", folder / "conll")
    for file, sentences in ((train, 45), (dev, 10)):
        text = file.read_text(encoding="utf-8").split("\n\n")[:sentences]
        file.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    corpus.export("beir", folder / "beir")
    qrels = folder / "beir" / "qrels" / "train.tsv"
    qrels.write_text("".join(qrels.open(encoding="utf-8").readlines()[:300]))
    return folder


def trained(desk: Path, launcher: str, recipe: str) -> dict:
    """Train for two passes; the report, and the weights of the best of them."""
    own = {
        "ner": "--train conll/train.conll --dev conll/dev.conll --learning-rate 2e-3",
        "retrieval": "--data beir --learning-rate 3e-4",
    }
    out = f"{recipe} by {launcher}"
    command = [
        *(*LAUNCHERS[launcher], "kie_course", recipe, "train", *own[recipe].split()),
        *("--model", "encoder", "--out", out, "--epochs", "2", "--batch-size", "7"),
        *("--device", "cpu", "--no-bf16", "--json"),
    ]
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)  # one object: the other process is silent
    return report | {"weights": load_file(desk / out / "model.safetensors")}


@pytest.mark.parametrize("recipe", ["ner", "retrieval"])
def test_two_processes_learn_what_one_learns(desk, recipe):
    """45 sentences in batches of 7: an odd batch and a last one of 3 are shared too."""
    alone, shared = (
        trained(desk, name, recipe) for name in ("one process", "torchrun")
    )
    assert alone["settings"]["best_step"] == shared["settings"]["best_step"] > 0
    assert_close(shared["weights"], alone["weights"], atol=1e-5, rtol=1e-4)
    key = {"ner": "dev", "retrieval": "metrics"}[recipe]
    assert shared[key] == alone[key]
