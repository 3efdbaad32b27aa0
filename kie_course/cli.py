"""The command line `kie-course`: its commands, their options, and what they call.

Exit status: 0 done; 1 what was checked does not hold; 2 bad input or usage, told in one
line. What a command needs is imported when it runs, so that help answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kie_course import SEED, BadInput, __version__, data, models

# What help says; a test compares them with the recipes, which import torch.
NER_DEFAULTS = {"epochs": 3, "learning_rate": 2e-4, "batch_size": 16}
RETRIEVAL_DEFAULTS = {"epochs": 3, "learning_rate": 1e-4, "batch_size": 32}
RERANK_DEFAULTS = {"epochs": 2, "learning_rate": 2e-4, "batch_size": 8}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status (0, 1 or 2; see the module)."""
    if hasattr(sys.stdout, "reconfigure"):  # a title may hold what it cannot write
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            arguments = _parser().parse_args(argv)
            status = arguments.command(arguments)
        sys.stdout.flush()
        return status
    except BadInput as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:  # whoever reads has read enough, as `head` does
        _drop_output()
        return 0
    except RuntimeError as error:
        if not models.out_of_memory(error):
            raise
        return _complain("memory ran out: lower --batch-size", 2)
    except OSError as error:
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)


def _complain(message: str, status: int) -> int:
    print("kie-course:", " ".join(message.splitlines()), file=sys.stderr)
    return status


def _drop_output() -> None:
    # Python flushes once more as it ends, and would fail once more.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# ------------------------------------------------------------------------- usage


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, and takes no abbreviated options."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message):
        raise BadInput(f"{message}; see {self.prog} --help")


def _number(kind: type, at_least: float, below: float, what: str) -> Callable:
    def read(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not at_least <= value < below:
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")
        return value

    return read


_SEED_NUMBER = _number(int, 0, 2**32, "a whole number from 0 to 4294967295")


def _types(text: str) -> tuple[str, ...]:
    types = tuple(part.strip() for part in text.split(","))
    if not all(types):
        raise argparse.ArgumentTypeError(f"must be like PER,ORG, not {text!r}")
    return types


KINDS = {
    "N": _number(int, 1, math.inf, "a whole number above 0"),
    "R": _number(float, sys.float_info.min, 1, "a number above 0 and below 1"),
    "A,B": _types,
    "F": Path,
    "DIR": Path,
}
"""What the value of an option is read as, by the word that stands for it in help."""


def _option(declared: str, text: str, **settings: Any) -> Callable:
    """Declare "--option VALUE", a "--flag", or a positional "name VALUE"."""
    name, _, value = declared.partition(" ")
    if value:
        settings = {"metavar": value, "type": KINDS.get(value), **settings}
    elif name.startswith("-"):
        settings = {"action": "store_true", **settings}
    return lambda parser: parser.add_argument(name, help=text, **settings)


def _one_of(*options: Callable) -> Callable:
    """Options of which one at most may be given."""
    return lambda parser: _add(parser.add_mutually_exclusive_group(), *options)


def _add(parser, *options: Callable) -> None:
    for option in options:
        option(parser)


def _group(parser: argparse.ArgumentParser):
    return parser.add_subparsers(metavar="COMMAND", title="commands", required=True)


def _command(group, name: str, command: Callable | None, text: str, *options: Callable):
    parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:])
    parser.set_defaults(command=command)
    _add(parser, *options)
    return parser


JSON = _option("--json", "print one JSON object instead of a table (default: a table)")
TYPES = _option(
    "--types A,B", "only these types of name; the others become O (default: all)"
)
TAGGER = _option("--model DIR", "folder that ner train wrote", required=True, type=str)
COLLECTION_TEXT = "BEIR folder: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv"
COLLECTION = _option("--data DIR", COLLECTION_TEXT, required=True)
SYSTEM_TEXT = (
    "bm25, tfidf, pretrained (the encoder untouched), a folder that retrieval train or "
    "train-reranker wrote, or hybrid:FOLDER (bm25 and that model together)"
)
SYSTEM = _option("--model M", SYSTEM_TEXT, required=True)
LESSONS = _option(
    "lessons NN", "number of a lesson, such as 06 (default: all lessons)", nargs="*"
)
# Where the automatic choice is wrong: a busy GPU, a comparison in full precision.
COMPUTE = (
    _option(
        "--device D",
        "cuda, mps or cpu (default: the best there is)",
        choices=("cuda", "mps", "cpu"),
    ),
    _option(
        "--no-bf16",
        "compute in 32 bits throughout (default: bfloat16 where it is faster)",
        dest="bf16",
        action="store_false",
    ),
)


def _conll(declared: str, text: str, **settings: Any) -> Callable:
    text += "; CoNLL columns, token first, tag last"
    return _option(declared, text, **settings)


def _recipe(defaults: Mapping[str, Any]) -> Sequence[Callable]:
    def number(declared: str, text: str, **settings: Any) -> Callable:
        default = defaults[declared.split()[0][2:].replace("-", "_")]
        text = f"{text} (default: {default:g})"
        return _option(declared, text, default=default, **settings)

    return (
        _option(
            "--model M",
            "BERT to start from: a folder, or a name on the Hugging Face hub "
            f"(default: the shipped {models.SHIPPED})",
        ),
        number("--epochs N", "passes over the training data"),
        number("--learning-rate R", "highest step size; lower it for larger models"),
        number("--batch-size N", "examples a step; lower it if memory runs out"),
        _option(
            "--gradient-checkpointing",
            "compute every layer twice, keep less in memory (default: compute once)",
            action="store_true",
        ),
        _option(
            "--seed S",
            f"of every random choice: the same seed, the same run (default: {SEED})",
            type=_SEED_NUMBER,
            default=SEED,
        ),
        _option(
            "--out DIR",
            "folder for model and report; an interrupted run found there goes on",
            required=True,
        ),
        _option("--overwrite", "replace the run that --out holds (default: refuse)"),
        JSON,
        *COMPUTE,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kie-course",
        description="Run the lessons, and train, use and test what they teach.",
        epilog="Each command explains itself: kie-course ner train --help",
    )
    text = "print the version and leave"
    _add(parser, _option("--version", text, action="version", version=__version__))
    commands = _group(parser)
    doctor = "tell whether the course can run here, and what to do if not"
    _command(commands, "doctor", _doctor, doctor)
    _add_lessons(commands)
    _add_exercises(commands)
    _add_ner(_group(_command(commands, "ner", None, "find names in text")))
    found = "find the documents that answer a question"
    _add_retrieval(_group(_command(commands, "retrieval", None, found)))
    _add_data(_group(_command(commands, "data", None, "the course's own corpus")))
    bench = "measure speed and quality beside other ways, as ratios in one run"
    only = _option("--only A,B", "measure only these (default: all)")
    _command(commands, "bench", _bench, bench, only, JSON)
    return parser


def _add_lessons(commands) -> None:
    text = "execute lessons into the folder build, and print before and after"
    profile = _option(
        "--profile P",
        "smoke (seconds), cpu (minutes) or gpu (default: $KIE_PROFILE, else cpu)",
        default=os.environ.get("KIE_PROFILE") or "cpu",
    )
    _command(commands, "run", _run, text, LESSONS, profile)

    text = "execute lessons with the cpu profile and write them back, clean"
    _command(commands, "refresh", _refresh, text, LESSONS)


def _add_exercises(commands) -> None:
    text = "write your own copy of the lessons, without solutions; edits are never lost"
    folder = _option("folder DIR", "a new folder, or one that this command wrote")
    _command(commands, "workbook", _workbook, text, folder)

    text = "tell which exercises of your workbook are right, and which comes next"
    folder = _option("folder DIR", "folder that workbook wrote")
    _command(commands, "progress", _progress, text, folder)

    text = "check the exercises of one notebook: a line each, status 1 if one is wrong"
    file = _option("file F", "notebook of a lesson, such as 06_topic.ipynb")
    _command(commands, "check", _check, text, file)

    text = "grade a class: a table of points, one of mistakes, a page for each student"
    folder = _option("folder DIR", "what was handed in: DIR/STUDENT/06_topic.ipynb")
    out = _option("--out DIR", "folder for tables and pages", required=True)
    _command(commands, "grade", _grade, text, folder, out)


def _add_ner(commands) -> None:
    text = "teach a model to find names, from labelled sentences"
    files = (
        _conll("--train F", "labelled sentences to learn from", required=True),
        _conll("--dev F", "others, to choose the best epoch (default: a tenth)"),
        _conll("--test F", "others, scored once at the end (default: none)"),
    )
    recipe = _recipe(NER_DEFAULTS)
    _command(commands, "train", _later("ner_train"), text, *files, TYPES, *recipe)

    text = "score a trained model on labelled sentences"
    options = (
        TAGGER,
        _conll("--test F", "labelled sentences", required=True),
        TYPES,
        _option(
            "--report DIR",
            "a new or empty folder for a page, index.html: mistakes by kind, the worst "
            "sentences, calibration; an older page is replaced (default: no page)",
        ),
        JSON,
        *COMPUTE,
    )
    _command(commands, "eval", _later("ner_eval"), text, *options)

    text = "find names in text: one JSON object a line, with character offsets"
    source = _one_of(
        _option("--text T", "the text itself (default: standard input)"),
        _option("--input F", "a UTF-8 file, one text a line (default: standard input)"),
    )
    options = (TAGGER, source, *COMPUTE)
    _command(commands, "predict", _later("ner_predict"), text, *options)


def _add_retrieval(commands) -> None:
    text = "teach a model to find documents, from judged questions"
    options = (COLLECTION, *_recipe(RETRIEVAL_DEFAULTS))
    _command(commands, "train", _later("retrieval_train"), text, *options)

    text = "teach a model to put in order what a first stage finds"
    first = "the first stage, whose best documents are read again: bm25, tfidf, "
    first += "pretrained, a folder that retrieval train wrote, or hybrid:FOLDER"
    first = _option("--first M", first, required=True)
    options = (COLLECTION, first, *_recipe(RERANK_DEFAULTS))
    command = _later("retrieval_train_reranker")
    _command(commands, "train-reranker", command, text, *options)

    text = "score a way of searching on judged questions"
    split = _option(
        "--split S",
        "whose questions: train, dev or test (default: test)",
        choices=data.SPLITS,
        default="test",
    )
    rival = "a second system: print the difference with its 95 %% interval "
    rival = _option("--against M", rival + "(default: none; with --report bm25)")
    page = "a new or empty folder for a page, index.html: every question won, lost or "
    page += "tied against the second system; an older page is replaced "
    page = _option("--report DIR", page + "(default: no page)")
    options = (COLLECTION, split, SYSTEM, rival, page, JSON, *COMPUTE)
    _command(commands, "eval", _later("retrieval_eval"), text, *options)

    text = "encode documents once and for all, or add those that an index lacks"
    documents = _option("--data DIR", "folder with corpus.jsonl", required=True)
    encoder = "pretrained (the encoder untouched), or a folder that retrieval train "
    encoder = _option("--model M", encoder + "wrote", required=True)
    out = "folder for the index; what one holds stays, and an interrupted run goes on"
    out = _option("--out DIR", out, required=True)
    options = (documents, encoder, out, JSON, *COMPUTE)
    _command(commands, "index", _later("retrieval_index"), text, *options)

    text = "search a collection, or an index of it, for a question"
    where = _one_of(
        _option("--data DIR", COLLECTION_TEXT + " (default: --index)"),
        _option("--index DIR", "folder that retrieval index wrote (default: --data)"),
    )
    system = _option("--model M", SYSTEM_TEXT + " (default: what made the index)")
    question = _option("question", "what to search for, in quotes")
    hits = _option("-k N", "hits to print (default: 10)", default=10)
    options = (where, system, question, hits, JSON, *COMPUTE)
    _command(commands, "search", _later("retrieval_search"), text, *options)


def _add_data(commands) -> None:
    text = "check the corpus: print every fault, or that there is none"
    _command(commands, "validate", _validate, text)
    _command(commands, "stats", _stats, "print what the corpus holds")

    text = "write the corpus in a format that other tools read"
    form = _option(
        "--format",
        "conll (names), beir (retrieval) or squad (question answering)",
        action="store",
        choices=("conll", "beir", "squad"),
        required=True,
    )
    out = _option("--out DIR", "a new or empty folder", required=True)
    _command(commands, "export", _export, text, form, out, TYPES)


# ------------------------------------------------------------ what the commands call


def _later(name: str) -> Callable:
    """A command of the module `commands`, which is imported when it runs."""

    def command(arguments: argparse.Namespace) -> int:
        from kie_course import commands

        return getattr(commands, name)(arguments)

    return command


def _doctor(arguments: argparse.Namespace) -> int:
    from kie_course import doctor

    return 0 if doctor.examine() else 1


def _run(arguments: argparse.Namespace) -> int:
    from kie_course import notebooks

    try:
        notebooks.run(arguments.lessons, arguments.profile)
    except notebooks.LessonFailed as error:
        return _complain(str(error), 1)
    return 0


def _refresh(arguments: argparse.Namespace) -> int:
    from kie_course import notebooks

    try:
        results = notebooks.refresh(arguments.lessons)
    except notebooks.LessonFailed as error:
        return _complain(str(error), 1)
    for result in results:
        print(f"lesson {result['lesson']}: refreshed in {result['seconds']} s")
    return 0


def _workbook(arguments: argparse.Namespace) -> int:
    from kie_course.exercises.workbook import workbook

    workbook(arguments.folder)
    return 0


def _progress(arguments: argparse.Namespace) -> int:
    from kie_course.exercises.workbook import progress

    progress(arguments.folder)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from kie_course.exercises.grading import check_file

    return 0 if check_file(arguments.file) else 1


def _grade(arguments: argparse.Namespace) -> int:
    from kie_course.exercises.grading import grade

    grade(arguments.folder, arguments.out)
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from kie_course import corpus

    problems = corpus.problems()
    print(*problems, sep="\n", end="\n" if problems else "")
    if not problems:
        documents, collection = data.load_documents(), data.load_retrieval()
        print(
            f"{len(documents)} documents, {len(collection.documents)} help-centre "
            f"articles, {len(collection.queries)} questions: no fault"
        )
    return 1 if problems else 0


def _stats(arguments: argparse.Namespace) -> int:
    from kie_course import corpus

    print(corpus.statistics_table())
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from kie_course import corpus

    files = corpus.export(arguments.format, arguments.out, arguments.types)
    print(*files, sep="\n")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from kie_course import bench, commands

    figures = bench.run(list(arguments.only or ()))
    return commands.show(figures, arguments.json, bench.table(figures))
