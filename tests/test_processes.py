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
    # Fed is what both read together, and no row that fills up a share.
    key = "padded_tokens_per_real_token"
    assert shared["settings"][key] == alone["settings"][key]


IN_BOTH = """
import json, os, sys
from dataclasses import replace
from kie_course import generation, heads

encoder = sys.argv[1]
own = replace(generation.Writer.recipe, epochs=1, batch_size=3, device="cpu")
pairs = [(f"we paid {n} euros", str(n)) for n in range(8)]
writer = generation.train(pairs, pairs, model=encoder, settings=own, progress=False)

seen, forward = [], heads.TextClassifier.forward
def watched(self, *inputs, **named):
    rows = forward(self, *inputs, **named)
    seen.extend(rows.tolist() if self.training else [])
    return rows
heads.TextClassifier.forward = watched
alike = [("one text", kind) for kind in ("a", "b")]
own = replace(heads.TextClassifier.recipe, epochs=1, batch_size=2, device="cpu")
task = heads.TextClassifier
heads.train(task, alike, [], model=encoder, settings=own, progress=False)
learned = {"loss": writer.history.loss, "tokens": writer.history.real_tokens}
with open(f"{sys.argv[2]}/{os.environ['RANK']}.json", "w") as file:
    json.dump(learned | {"rows": seen}, file)
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes says of a writer and of a classifier."""
    folder = tmp_path_factory.mktemp("both")
    script = folder / "script.py"
    script.write_text(IN_BOTH, encoding="utf-8")
    encoder = encoder_folder(folder / "encoder")
    command = [*LAUNCHERS["torchrun"][:-1], str(script), str(encoder), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_train_a_writer(both):
    """Its loss gives the model nothing where states could be: that is passed on."""
    first, second = both
    assert first["loss"] == second["loss"]
    assert len(first["loss"]) == 3
    assert first["tokens"] == second["tokens"] > 0


def test_each_process_drops_other_neurons(both):
    """With the same dice, row i of every share would lose the same ones."""
    first, second = (process["rows"] for process in both)
    assert len(first) == len(second) == 1
    assert first != second
