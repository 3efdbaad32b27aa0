"""The tests of attention and of BERT catch the mistakes that they are there for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kie_course

PACKAGE = Path(kie_course.__file__).parent
HERE = Path(__file__).parent

# what is wrong -> (module, line as it is, line with the bug, tests that must notice)
BUGS = {
    "mask inverted": (
        "attention.py",
        "scores.masked_fill(~mask, -torch.inf)",
        "scores.masked_fill(mask, -torch.inf)",
        "test_attention.py",
    ),
    "empty rows look at what is blocked": (
        "attention.py",
        "return weights.masked_fill(~mask, 0.0)",
        "return weights",
        "test_attention.py",
    ),
    "softmax over the queries": (
        "attention.py",
        "-torch.inf).softmax(dim=-1)",
        "-torch.inf).softmax(dim=-2)",
        "test_attention.py",
    ),
    "scale forgotten": (
        "attention.py",
        "return dot / math.sqrt(query.shape[-1])",
        "return dot",
        "test_attention.py",
    ),
    "a large number for minus infinity, in half precision too": (
        "attention.py",
        "scores.masked_fill(~mask, -torch.inf)",
        "scores.masked_fill(~mask, -1e9)",
        "test_attention.py",
    ),
    "a large number for minus infinity, and empty rows left": (
        "attention.py",
        """scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)""",
        "scores.float().masked_fill(~mask, -1e9).softmax(dim=-1)\n    return weights",
        "test_attention.py",
    ),
    "scores written into": (
        "attention.py",
        "scores.masked_fill(~mask, -torch.inf)",
        "scores.masked_fill_(~mask, -torch.inf)",
        "test_attention.py",
    ),
    "heads cut without a transposition": (
        "attention.py",
        "states.view(batch, tokens, num_heads, d_model // num_heads).transpose(1, 2)",
        "states.reshape(batch, num_heads, tokens, d_model // num_heads)",
        "test_attention.py",
    ),
    "mask dropped in layer 2": (
        "bert.py",
        "layer(hidden[-1], mask)",
        "layer(hidden[-1], mask if len(hidden) != 2 else mask.new_ones(mask.shape))",
        "test_bert.py",
    ),
}


def run_tests(folder: Path, tests: str) -> subprocess.CompletedProcess:
    """Run tests on the copy of the package in a folder."""
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, enough of it for these tests."""
    ignored = shutil.ignore_patterns("__pycache__", "exercises")
    shutil.copytree(PACKAGE, tmp_path / "kie_course", ignore=ignored)
    return tmp_path


@pytest.mark.parametrize("tests", ["test_attention.py", "test_bert.py"])
def test_the_copy_passes_without_a_bug(tests, copy):
    done = run_tests(copy, tests)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, copy):
    module, right, wrong, tests = BUGS[bug]
    file = copy / "kie_course" / module
    source = file.read_text(encoding="utf-8")
    assert source.count(right) == 1
    file.write_text(source.replace(right, wrong), encoding="utf-8")
    done = run_tests(copy, tests)
    assert done.returncode == 1, done.stdout[-2000:]  # a test failed; 2: none could run
