"""The command line `kie-course`: reads, checks, calls the package, prints.

Exit status: 0 done; 1 what was checked does not hold; 2 bad input or usage, told in one
line. Heavy imports stand inside the command that needs them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import math
import os
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kie_course import SEED, BadInput, __version__, data, models
from kie_course.data import Beir, Sentence

# What help says; a test compares both with the recipes, which import torch.
NER_DEFAULTS = {"epochs": 3, "learning_rate": 2e-4, "batch_size": 16}
RETRIEVAL_DEFAULTS = {"epochs": 3, "learning_rate": 5e-5, "batch_size": 32}

GIB = 2**30
NEEDED_GIB = 2
"""Free memory and free disk without which the lessons do not run."""

# Everything that a training run writes into its folder, and nothing else is deleted.
STARTED, REPORT = "kie-run.json", "report.json"
RUN_FOLDERS = ("checkpoint", "checkpoint.new", "checkpoint.old", "saving")
RUN_FILES = (
    STARTED,
    REPORT,
    "retrieval.json",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status (0, 1 or 2; see the module)."""
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


def _print_json(value: Any) -> None:
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=plain, allow_nan=False))


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


_COUNT = _number(int, 1, math.inf, "a whole number above 0")
_SEED_NUMBER = _number(int, 0, 2**32, "a whole number from 0 to 4294967295")
_RATE = _number(float, sys.float_info.min, 1, "a number above 0 and below 1")


def _types(text: str) -> tuple[str, ...]:
    types = tuple(part.strip() for part in text.split(","))
    if not all(types):
        raise argparse.ArgumentTypeError(f"must be like PER,ORG, not {text!r}")
    return types


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kie-course",
        description="Run the lessons, and train, use and test what they teach.",
        epilog="Each command explains itself: kie-course ner train --help",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=__version__,
        help="print the version and leave",
    )
    commands = _group(parser)
    doctor = "tell whether the course can run here, and what to do if not"
    _command(commands, "doctor", _doctor, doctor)
    _add_lessons(commands)
    _add_ner(_group(_command(commands, "ner", None, "find names in text")))
    found = "find the documents that answer a question"
    _add_retrieval(_group(_command(commands, "retrieval", None, found)))
    _add_data(_group(_command(commands, "data", None, "the course's own corpus")))
    bench = "measure speed and quality beside other ways, as ratios in one run"
    bench = _command(commands, "bench", _bench, bench)
    bench.add_argument(
        "--only", metavar="A,B", type=_types, help="measure only these (default: all)"
    )
    _add_json(bench)
    return parser


def _group(parser: argparse.ArgumentParser):
    return parser.add_subparsers(metavar="COMMAND", title="commands", required=True)


def _command(group, name: str, command: Callable | None, text: str):
    parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:])
    parser.set_defaults(command=command)
    return parser


def _add_lessons(commands) -> None:
    numbers = "number of a lesson, such as 06 (default: all lessons)"
    run = "execute lessons into the folder build, and print before and after"
    run = _command(commands, "run", _run, run)
    run.add_argument("lessons", nargs="*", metavar="NN", help=numbers)
    run.add_argument(
        "--profile",
        metavar="P",
        default=os.environ.get("KIE_PROFILE") or "cpu",
        help="smoke (seconds), cpu (minutes) or gpu (default: $KIE_PROFILE, else cpu)",
    )
    refresh = "execute lessons with the cpu profile and write them back, clean"
    refresh = _command(commands, "refresh", _refresh, refresh)
    refresh.add_argument("lessons", nargs="*", metavar="NN", help=numbers)


def _add_ner(commands) -> None:
    train = "teach a model to find names, from labelled sentences"
    train = _command(commands, "train", _ner_train, train)
    _add_file(train, "--train", "labelled sentences to learn from", required=True)
    _add_file(train, "--dev", "others, to choose the best epoch (default: a tenth)")
    _add_file(train, "--test", "others, scored once at the end (default: none)")
    _add_types(train)
    _add_recipe(train, NER_DEFAULTS)

    test = "score a trained model on labelled sentences"
    test = _command(commands, "eval", _ner_eval, test)
    _add_tagger(test)
    _add_file(test, "--test", "labelled sentences", required=True)
    _add_types(test)
    _add_json(test)
    _add_compute(test)

    predict = "find names in text: one JSON object a line, with character offsets"
    predict = _command(commands, "predict", _ner_predict, predict)
    _add_tagger(predict)
    source = predict.add_mutually_exclusive_group()
    source.add_argument(
        "--text", metavar="T", help="the text itself (default: standard input)"
    )
    source.add_argument(
        "--input",
        metavar="F",
        type=Path,
        help="a UTF-8 file, one text a line (default: standard input)",
    )
    _add_compute(predict)


def _add_retrieval(commands) -> None:
    train = "teach a model to find documents, from judged questions"
    train = _command(commands, "train", _retrieval_train, train)
    _add_collection(train)
    _add_recipe(train, RETRIEVAL_DEFAULTS)

    test = "score a way of searching on judged questions"
    test = _command(commands, "eval", _retrieval_eval, test)
    _add_collection(test)
    test.add_argument(
        "--split",
        metavar="S",
        choices=data.SPLITS,
        default="test",
        help="whose questions: train, dev or test (default: test)",
    )
    _add_system(test)
    test.add_argument(
        "--against",
        metavar="M",
        help="a second system: print the difference with its 95 %% interval "
        "(default: none)",
    )
    _add_json(test)
    _add_compute(test)

    search = "search a collection for a question"
    search = _command(commands, "search", _retrieval_search, search)
    _add_collection(search)
    _add_system(search)
    search.add_argument("question", help="what to search for, in quotes")
    search.add_argument(
        "-k", metavar="N", type=_COUNT, default=10, help="hits to print (default: 10)"
    )
    _add_json(search)
    _add_compute(search)


def _add_data(commands) -> None:
    validate = "check the corpus: print every fault, or that there is none"
    _command(commands, "validate", _data_validate, validate)
    _command(commands, "stats", _data_stats, "print what the corpus holds")
    export = "write the corpus in a format that other tools read"
    export = _command(commands, "export", _data_export, export)
    export.add_argument(
        "--format",
        required=True,
        choices=("conll", "beir", "squad"),
        help="conll (names), beir (retrieval) or squad (question answering)",
    )
    export.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="a new or empty folder"
    )
    _add_types(export)


def _add_file(parser, option: str, text: str, required: bool = False) -> None:
    text += "; CoNLL columns, token first, tag last"
    parser.add_argument(option, metavar="F", type=Path, required=required, help=text)


def _add_types(parser) -> None:
    text = "only these types of name; the others become O (default: all)"
    parser.add_argument("--types", metavar="A,B", type=_types, help=text)


def _add_tagger(parser) -> None:
    text = "folder that ner train wrote"
    parser.add_argument("--model", metavar="DIR", required=True, help=text)


def _add_collection(parser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        required=True,
        help="BEIR folder: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv",
    )


def _add_system(parser) -> None:
    parser.add_argument(
        "--model",
        metavar="M",
        required=True,
        help="bm25, tfidf, pretrained (the encoder untouched), a folder that "
        "retrieval train wrote, or hybrid:FOLDER (bm25 and that model together)",
    )


def _add_recipe(parser, defaults: Mapping[str, Any]) -> None:
    def add(option: str, metavar: str, kind: Callable, text: str) -> None:
        default = defaults[option[2:].replace("-", "_")]
        text = f"{text} (default: {default:g})"
        parser.add_argument(
            option, metavar=metavar, type=kind, default=default, help=text
        )

    parser.add_argument(
        "--model",
        metavar="M",
        help="encoder to start from: a folder, or a name on the Hugging Face hub "
        f"(default: the shipped {models.SHIPPED})",
    )
    add("--epochs", "N", _COUNT, "passes over the training data")
    add("--learning-rate", "R", _RATE, "highest step size; lower it for larger models")
    add("--batch-size", "N", _COUNT, "examples a step; lower it if memory runs out")
    parser.add_argument(
        "--seed",
        metavar="S",
        type=_SEED_NUMBER,
        default=SEED,
        help=f"of every random choice: the same seed, the same run (default: {SEED})",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder for model and report; an interrupted run found there goes on",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run that --out holds (default: refuse)",
    )
    _add_json(parser)
    _add_compute(parser)


def _add_json(parser) -> None:
    text = "print one JSON object instead of a table (default: a table)"
    parser.add_argument("--json", action="store_true", help=text)


def _add_compute(parser) -> None:
    # Where the automatic choice is wrong: a busy GPU, a comparison in full precision.
    parser.add_argument(
        "--device",
        metavar="D",
        choices=("cuda", "mps", "cpu"),
        help="cuda, mps or cpu (default: the best there is)",
    )
    parser.add_argument(
        "--no-bf16",
        dest="bf16",
        action="store_false",
        help="compute in 32 bits throughout (default: bfloat16 where it is faster)",
    )


# ------------------------------------------------------------- the folder of a run


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds what must not be lost."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file: name a folder")
    if not out.is_dir() or not any(out.iterdir()) or _is_interrupted(out):
        return
    if not _is_finished(out):
        raise BadInput(f"{out} holds files that no run wrote: name an empty folder")
    if not overwrite:
        raise BadInput(f"{out} holds a finished run: name another, or add --overwrite")


def _is_interrupted(out: Path) -> bool:
    begun = any((out / folder / "run.json").is_file() for folder in RUN_FOLDERS[:2])
    return (out / STARTED).is_file() or (begun and not (out / REPORT).exists())


def _is_finished(out: Path) -> bool:
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    own = isinstance(report, dict) and "settings" in report
    return own and (out / "config.json").is_file()


def _claim(arguments: argparse.Namespace, files: Sequence[Path]) -> None:
    """Note in the output folder which run begins, or goes on, there."""
    out, started = arguments.out, arguments.out / STARTED
    out.mkdir(parents=True, exist_ok=True)
    if arguments.overwrite:
        _clear(out)
    text = json.dumps(_identity(arguments, files), indent=1)
    if started.exists() and started.read_text(encoding="utf-8") != text:
        raise BadInput(
            f"{out} holds an interrupted run with other settings or data: repeat its "
            "command to go on, or start anew with --overwrite"
        )
    started.write_text(text, encoding="utf-8")


def _identity(arguments: argparse.Namespace, files: Sequence[Path]) -> dict:
    """What must be equal for a run to go on: settings, model and data."""
    names = ("model", "epochs", "learning_rate", "batch_size", "seed", "device", "bf16")
    chosen = {name: getattr(arguments, name) for name in names}
    types = getattr(arguments, "types", None)
    return {**chosen, "types": types, "data": [models.sha256(file) for file in files]}


def _clear(out: Path) -> None:
    for name in RUN_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in RUN_FILES:
        (out / name).unlink(missing_ok=True)


def _finish(out: Path, save: Callable[[Path], None], report: dict) -> None:
    """Save beside, then move in, report last: half a run never looks like a whole."""
    from safetensors import SafetensorError

    fresh = out / "saving"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        save(fresh)
    except SafetensorError as error:  # a full disk, say
        raise OSError(f"{fresh} cannot be written: {error}") from error
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (fresh / REPORT).write_text(text, encoding="utf-8")
    for file in sorted(fresh.iterdir(), key=lambda file: file.name == REPORT):
        os.replace(file, out / file.name)
    (out / STARTED).unlink()
    for name in RUN_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)


def _settings(arguments: argparse.Namespace):
    from kie_course.training import Settings

    names = ("epochs", "learning_rate", "batch_size", "seed", "device", "bf16")
    return Settings(**{name: getattr(arguments, name) for name in names})


def _check_model(arguments: argparse.Namespace) -> None:
    """Load the encoder once, so that nothing is cleared for one that is not there."""
    models.device(arguments.device)
    models.load_tokenizer(arguments.model)
    models.load("AutoModel", arguments.model)


def _looped(tagger_or_encoder: Any, arguments: argparse.Namespace) -> dict:
    """What the loop adds to a report's settings."""
    history = tagger_or_encoder.history
    device = tagger_or_encoder.model.device
    fed = history.padded_tokens / max(1, history.real_tokens)
    return {
        **tagger_or_encoder.report["settings"],
        "bf16": arguments.bf16 and models.has_bf16(device),
        "best_step": history.best_step,
        "resumed_at": history.resumed_at,
        "padded_tokens_per_real_token": round(fed, 4),
    }


def _used(arguments: argparse.Namespace, model: Any = None) -> dict:
    """What every report of a computation says about it."""
    device = model.model.device if model else None
    return {
        "model": arguments.model,
        "device": device.type if device else "cpu",
        "bf16": bool(device and arguments.bf16 and models.has_bf16(device)),
    }


def _show(report: dict, as_json: bool, table: str) -> int:
    if as_json:
        _print_json(report)
    else:
        print(table)
    return 0


def _seconds(start: float) -> float:
    return round(time.perf_counter() - start, 2)


# ------------------------------------------------------------------------- lessons


def _run(arguments: argparse.Namespace) -> int:
    import tomllib

    from kie_course import notebooks

    profiles = tomllib.loads(notebooks.PROFILES.read_text(encoding="utf-8"))
    if arguments.profile not in profiles:
        known = ", ".join(profiles)
        raise BadInput(f"profile {arguments.profile!r} is unknown: use {known}")
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


def _bench(arguments: argparse.Namespace) -> int:
    from kie_course import bench

    figures = bench.run(list(arguments.only or ()))
    return _show(figures, arguments.json, bench.table(figures))


# -------------------------------------------------------------------------- doctor


def _doctor(arguments: argparse.Namespace) -> int:
    """Print a line for each thing that the course needs; 1 if one is not there."""
    status = 0
    for check in (_python, *_packages(), _encoder, _device, _memory, _disk, _lessons):
        try:
            print("ok      ", check())
        except Exception as error:  # whatever is broken is what doctor looks for
            print("PROBLEM ", " ".join(str(error).splitlines()))
            status = 1
    return status


def _python() -> str:
    return f"Python {sys.version.split()[0]} at {sys.executable}"


def _packages() -> list[Callable[[], str]]:
    """A check for each package that this one requires."""
    from importlib import metadata

    try:
        lines = metadata.requires("kie-course") or []
    except metadata.PackageNotFoundError:
        lines = ["kie-course"]
    return [functools.partial(_package, line) for line in lines if ";" not in line]


def _package(line: str) -> str:
    from importlib import metadata

    from packaging.requirements import Requirement

    wanted, there = Requirement(line), ""
    with contextlib.suppress(metadata.PackageNotFoundError):
        there = metadata.version(wanted.name)
    if not there or not wanted.specifier.contains(there, prereleases=True):
        fault = f"{there} does not fit" if there else "is missing"
        raise BadInput(f"{wanted.name} {fault}: pip install '{wanted}'")
    return f"{wanted.name} {there}"


def _encoder() -> str:
    models.shipped_folder()
    return (
        f"encoder {models.SHIPPED}, SHA-256 {models.SHIPPED_SHA256[:12]}… as published"
    )


def _device() -> str:
    device = models.device()
    precision = "bfloat16" if models.has_bf16(device) else "32 bits"
    return f"device {device.type}, computing in {precision}"


def _memory() -> str:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux: all there is, free or not
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _enough("memory", free, "close other programs")


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    return _enough("disk", free, f"make room on the disk of {Path.cwd()}")


def _enough(what: str, free: int, remedy: str) -> str:
    if free < NEEDED_GIB * GIB:
        raise BadInput(
            f"{what}: {free / GIB:.1f} GiB free, {NEEDED_GIB} needed: {remedy}"
        )
    return f"{what} {free / GIB:.1f} GiB free"


def _lessons() -> str:
    from kie_course import notebooks

    found = notebooks.lessons()
    if not found:
        raise BadInput(f"no lesson in {data.home()}: install the package again")
    return f"{len(found)} lessons in {found[0].parent}"


# ------------------------------------------------------------------ data: the corpus


def _data_validate(arguments: argparse.Namespace) -> int:
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


def _data_stats(arguments: argparse.Namespace) -> int:
    from kie_course import corpus

    print(corpus.statistics_table())
    return 0


def _data_export(arguments: argparse.Namespace) -> int:
    from kie_course import corpus

    files = corpus.export(arguments.format, arguments.out, arguments.types)
    print(*files, sep="\n")
    return 0


# ------------------------------------------------------------------------------ ner


def _read_sentences(**files: Path | None) -> dict[str, list[Sentence]]:
    """Read the files that were given."""
    return {name: data.read_conll(file) for name, file in files.items() if file}


def _types_in(sentences: Iterable[Sentence]) -> set[str]:
    return {label[2:] for s in sentences for label in s.labels if label != "O"}


def _check_types(types: Iterable[str], there: set[str], where: str) -> None:
    if missing := [kind for kind in types if kind not in there]:
        have = ", ".join(sorted(there)) or "none"
        raise BadInput(f"{where}: no name of type {missing[0]!r}; there is: {have}")


def _only(sentences: Iterable[Sentence], types: Iterable[str]) -> list[Sentence]:
    """Let names of other types become O."""
    return [
        Sentence(s.words, [label if label[2:] in types else "O" for label in s.labels])
        for s in sentences
    ]


def _ner_train(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    _check_out(arguments.out, arguments.overwrite)
    sentences = _read_training_sentences(arguments)

    from kie_course import ner

    learn = sentences["train"]
    if "dev" not in sentences and len(learn) > 1:
        learn, sentences["dev"] = ner.hold_out(learn, arguments.seed)
    if not _types_in(learn):
        raise BadInput(f"{arguments.train}: no name to learn from: every tag is O")
    _check_model(arguments)
    _claim(arguments, [file for file in (arguments.train, arguments.dev) if file])
    tagger = ner.train(
        sentences["train"],
        sentences["dev"] if arguments.dev else None,
        model=arguments.model,
        settings=_settings(arguments),
        folder=arguments.out,
    )
    scored = [name for name in ("dev", "test") if name in sentences]
    report = {name: ner.evaluate(tagger, sentences[name]) for name in scored}
    report["seconds"] = _seconds(start)
    counts = _counts(tagger, sentences)
    report["settings"] = _looped(tagger, arguments) | counts
    tagger.report = report
    _finish(arguments.out, tagger.save, report)
    return _show(report, arguments.json, _ner_table(report))


def _read_training_sentences(arguments: argparse.Namespace) -> dict:
    files = {name: getattr(arguments, name) for name in data.SPLITS}
    sentences = _read_sentences(**files)
    if arguments.types is not None:
        there = set().union(*map(_types_in, sentences.values()))
        where = ", ".join(str(files[name]) for name in sentences)
        _check_types(arguments.types, there, where)
        for name in sentences:
            sentences[name] = _only(sentences[name], arguments.types)
    if len(sentences["train"]) < 2 and not arguments.dev:
        raise BadInput(f"{arguments.train}: one sentence only; add more, or --dev")
    return sentences


def _known_types(tagger: Any) -> set[str]:
    return {label[2:] for label in tagger.labels if label != "O"}


def _counts(tagger: Any, sentences: Mapping[str, list[Sentence]]) -> dict:
    """Count what is legal but worth knowing: long sentences, types never learned."""
    from kie_course import ner

    limit, known, long = models.max_length(tagger.model), _known_types(tagger), {}
    for name, rows in sentences.items():
        windows = ner.encode([s.words for s in rows], tagger.tokenizer, limit)
        parts = collections.Counter(window.sentence for window in windows)
        long[name] = sum(count > 1 for count in parts.values())
    met = set().union(*map(_types_in, sentences.values()))
    return {
        "types": sorted(known),
        "types_unknown_to_model": sorted(met - known),
        "sentences_longer_than_model": long,
    }


def _ner_eval(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    gold = _read_sentences(test=arguments.test)["test"]

    from kie_course import ner

    tagger = ner.load(arguments.model, arguments.device, arguments.bf16)
    there = _known_types(tagger) | _types_in(gold)
    types = arguments.types or sorted(there)
    _check_types(types, there, f"{arguments.test}, {arguments.model}")
    gold = _only(gold, types)
    labels = tagger.tag([s.words for s in gold], progress=True)
    # A name of a type that was not asked for is no mistake.
    found = _only(map(Sentence, (s.words for s in gold), labels), types)
    report = {
        "test": ner.score([s.labels for s in gold], [s.labels for s in found]),
        "seconds": _seconds(start),
        "settings": {
            **_used(arguments, tagger),
            "sentences": len(gold),
            **_counts(tagger, {"test": gold}),
            "types": list(types),
        },
    }
    return _show(report, arguments.json, _ner_table(report))


def _ner_table(report: Mapping[str, Any]) -> str:
    lines = [f"{'':12} {'precision':>9} {'recall':>9} {'f1':>9} {'names':>7}"]
    for name in ("dev", "test"):
        if name not in report:
            continue
        kinds = report[name]["per_type"]
        every = {**report[name], "support": sum(k["support"] for k in kinds.values())}
        rows = {name: every, **{f"  {kind}": row for kind, row in kinds.items()}}
        lines += [
            f"{title:12} {row['precision']:9.3f} {row['recall']:9.3f} "
            f"{row['f1']:9.3f} {row['support']:7}"
            for title, row in rows.items()
        ]
    return "\n".join(lines)


def _ner_predict(arguments: argparse.Namespace) -> int:
    texts = _texts(arguments)

    from kie_course import ner

    tagger = ner.load(arguments.model, arguments.device, arguments.bf16)
    for result in ner.predict(tagger, texts, progress=len(texts) > 1):
        _print_json(result)
    return 0


def _texts(arguments: argparse.Namespace) -> list[str]:
    """The texts to read, one of `--text` or one a line; blank lines are texts too."""
    if arguments.text is not None:
        return [_readable("--text", arguments.text)]
    if arguments.input is not None:
        return [line for _, line in data.read_lines(arguments.input)]
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput("standard input: not UTF-8 text; convert it first") from None
    if not text.strip():
        raise BadInput("standard input: no text; give --text or --input")
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]


def _readable(what: str, text: str) -> str:
    if not text.strip():
        raise BadInput(f"{what} is empty: type a few words")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{what} is not UTF-8 text") from None
    return text


# ------------------------------------------------------------------------ retrieval


def _check_split(folder: Path, collection: Beir, split: str) -> None:
    """Refuse a split that is not there or in which no document answers a query."""
    path = folder / "qrels" / f"{split}.tsv"
    if split not in collection.judgements:
        have = ", ".join(collection.judgements)
        raise BadInput(f"{path}: no such file; there is: {have}")
    if not _answered(collection.judgements[split]):
        raise BadInput(f"{path}: no grade above 0: no query has an answer")


def _answered(judgements: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {q: grades for q, grades in judgements.items() if max(grades.values()) > 0}


def _retrieval_train(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    _check_out(arguments.out, arguments.overwrite)
    collection = data.read_beir(arguments.data)
    usable = _usable(arguments.data, collection)
    _check_model(arguments)

    from kie_course import retrieval

    _claim(arguments, _files(arguments.data, usable))
    encoder = retrieval.train(
        usable,
        model=arguments.model,
        settings=_settings(arguments),
        folder=arguments.out,
    )
    best = encoder.history.best_step
    report = {
        "metrics": _on_dev(arguments, usable, encoder, best),
        "before": _on_dev(arguments, usable, encoder, 0),
        "seconds": _seconds(start),
        "settings": {
            **_looped(encoder, arguments),
            **_describe(collection, "train"),
            "documents_cut": _documents_cut(encoder, collection),
        },
    }
    encoder.report = report
    _finish(arguments.out, encoder.save, report)
    rows = {"untouched, dev": report["before"], "tuned, dev": report["metrics"]}
    return _show(report, arguments.json, _retrieval_table(rows))


def _usable(folder: Path, collection: Beir) -> Beir:
    """The queries that can be learned from: those that some document answers."""
    for split in ("train", "dev"):
        if split == "train" or split in collection.judgements:
            _check_split(folder, collection, split)
    judgements = {s: _answered(j) for s, j in collection.judgements.items()}
    if len(judgements["train"]) < 2 and "dev" not in judgements:
        path = folder / "qrels" / "train.tsv"
        raise BadInput(f"{path}: one query only; judge more, or add dev.tsv")
    return Beir(collection.documents, collection.queries, judgements)


def _files(folder: Path, collection: Beir) -> list[Path]:
    splits = [s for s in ("train", "dev") if s in collection.judgements]
    qrels = [folder / "qrels" / f"{split}.tsv" for split in splits]
    return [folder / "corpus.jsonl", folder / "queries.jsonl", *qrels]


def _on_dev(arguments, collection: Beir, encoder: Any, step: int) -> dict[str, float]:
    """Metrics on dev at a step: 0 (untouched) or the best, which `encoder` holds."""
    from kie_course import retrieval

    for row in encoder.report["dev"]:
        if row["step"] == step:
            return {name: row[name] for name in retrieval.METRICS}
    # Evaluated before the run was interrupted: evaluate once more.
    learn, dev = collection.judgements["train"], collection.judgements.get("dev")
    if dev is None:
        _, held_out = retrieval.hold_out(list(learn), arguments.seed)
        dev = {query: learn[query] for query in held_out}
    if step == 0:
        encoder = retrieval.load(arguments.model, arguments.device, arguments.bf16)
    collection = Beir(collection.documents, collection.queries, {"dev": dev})
    ranker = retrieval.Dense(encoder, collection.documents)
    return retrieval.mean(retrieval.evaluate(ranker, collection, "dev"))


def _describe(collection: Beir, split: str) -> dict:
    """Count what is legal but worth knowing about a collection and one split."""
    judged = collection.judgements[split]
    anywhere = {
        query for queries in collection.judgements.values() for query in queries
    }
    grades = [grade for row in judged.values() for grade in row.values()]
    texts = collection.documents.values()
    return {
        "split": split,
        "documents": len(collection.documents),
        "empty_documents": sum(not text for text in texts),
        "queries_judged": len(judged),
        "queries_without_answer": len(judged) - len(_answered(judged)),
        "queries_without_judgement": len(collection.queries) - len(anywhere),
        "grade_0_judgements": sum(grade <= 0 for grade in grades),
    }


def _documents_cut(encoder: Any, collection: Beir) -> int:
    """Documents of which the model reads the beginning only."""
    limit = min(encoder.max_length, models.max_length(encoder.model))
    texts = list(collection.documents.values())
    rows = encoder.tokenizer(texts, truncation=True, max_length=limit + 1)["input_ids"]
    return sum(len(row) > limit for row in rows)


def _encoder_of(ranker: Any) -> Any:
    """The bi-encoder inside a ranker, if it has one."""
    parts = getattr(ranker, "rankers", (ranker,))
    return next((part.model for part in parts if hasattr(part, "model")), None)


def _rank_system(arguments: argparse.Namespace, system: str, collection: Beir) -> Any:
    from kie_course import retrieval

    return retrieval.ranker(
        system, collection.documents, arguments.device, arguments.bf16, progress=True
    )


def _retrieval_eval(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    collection, split = data.read_beir(arguments.data), arguments.split
    _check_split(arguments.data, collection, split)

    from kie_course import retrieval

    ranker = _rank_system(arguments, arguments.model, collection)
    rival = None
    if arguments.against is not None:
        rival = _rank_system(arguments, arguments.against, collection)
    values = retrieval.evaluate(ranker, collection, split)
    report = {"metrics": retrieval.mean(values)}
    rows = {arguments.model: report["metrics"]}
    if rival:
        others = retrieval.evaluate(rival, collection, split)
        report["against"] = _compare(arguments.against, values, others)
        rows |= {arguments.against: report["against"]["metrics"]}
    encoder = _encoder_of(ranker)
    settings = _used(arguments, encoder) | _describe(collection, split)
    if encoder:
        settings["documents_cut"] = _documents_cut(encoder, collection)
    report |= {"seconds": _seconds(start), "settings": settings}
    table = _retrieval_table(rows) + _interval_lines(report.get("against"))
    return _show(report, arguments.json, table)


def _compare(system: str, values: Mapping, others: Mapping) -> dict:
    from kie_course import retrieval

    keys = ("mean", "low", "high")
    return {
        "system": system,
        "metrics": retrieval.mean(others),
        "difference": {
            metric: dict(
                zip(keys, retrieval.paired_interval(row, others[metric]), strict=True)
            )
            for metric, row in values.items()
        },
    }


def _interval_lines(against: Mapping | None) -> str:
    if not against:
        return ""
    rows = against["difference"].items()
    return "".join(
        f"\n{metric}: difference {row['mean']:+.3f}, "
        f"95 % interval {row['low']:+.3f} to {row['high']:+.3f}"
        for metric, row in rows
    )


def _retrieval_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(rows.values())))
    width = max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{name:>10}" for name in names)])]
    for title, row in rows.items():
        lines.append(
            " ".join([f"{title:{width}}", *(f"{row[n]:10.3f}" for n in names)])
        )
    return "\n".join(lines)


def _retrieval_search(arguments: argparse.Namespace) -> int:
    question = _readable("the question", arguments.question)
    collection = data.read_beir(arguments.data)
    ranker = _rank_system(arguments, arguments.model, collection)
    found = ranker.rank([question], arguments.k)[0]
    results = [
        {"rank": i, "score": score, "id": key, "text": collection.documents[key]}
        for i, (key, score) in enumerate(found, start=1)
    ]
    report = {"question": question, "results": results}
    return _show(report, arguments.json, _hits(results))


def _hits(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "no document shares a word with the question"
    width = max(len(hit["id"]) for hit in results)
    return "\n".join(
        f"{hit['rank']:3}  {hit['score']:.4f}  {hit['id']:{width}}  "
        + _first_words(hit["text"])
        for hit in results
    )


def _first_words(text: str) -> str:
    """The title, or the beginning where there is none."""
    return textwrap.shorten(text.partition("\n")[0], 60, placeholder=" …") or "(empty)"
