"""What the ner and retrieval commands do: read, check, call the recipes, report.

Each takes the parsed arguments and gives the exit status. Bad input is refused before
the recipe, which imports torch, is imported.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kie_course import BadInput, data, models, runs
from kie_course.data import Beir, Sentence, answered, keep_types, types_in

SETTINGS = (
    "epochs",
    "learning_rate",
    "batch_size",
    "gradient_checkpointing",
    "seed",
    "device",
    "bf16",
)
"""Arguments that are settings of a training run."""


# ----------------------------------------------------------------- what several share


def show(report: dict, as_json: bool, table: str) -> int:
    """Print a report as one JSON object or as a table."""
    if not runs.is_main():
        return 0
    if as_json:
        _print_json(report)
    else:
        print(table)
    return 0


def _print_json(value: Any) -> None:
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=plain, allow_nan=False))


def _chosen(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}


def _settings(arguments: argparse.Namespace):
    from kie_course.training import Settings

    return Settings(**_chosen(arguments, SETTINGS))


def _check_model(arguments: argparse.Namespace) -> None:
    """Load the encoder once, so that nothing is cleared for one that is not there."""
    models.device(arguments.device)
    models.load_tokenizer(arguments.model)
    models.load("AutoModel", arguments.model)


def _check_out(arguments: argparse.Namespace) -> None:
    """Refuse a folder that holds something, or the model that the run starts from."""
    runs.check_out(arguments.out, arguments.overwrite)
    for option in ("model", "first"):
        name = str(getattr(arguments, option, None) or "").removeprefix("hybrid:")
        if name and Path(os.path.expanduser(name)).resolve() == arguments.out.resolve():
            raise BadInput(
                f"--out {arguments.out} is the folder of --{option}, which the run "
                "starts from: choose another folder"
            )


def _claim(arguments: argparse.Namespace, files: Mapping[str, Path]) -> dict:
    """Begin a run, or go on with it, and give what tells its data from others."""
    read = {
        part: {
            "name": file.name.encode("utf-8", "backslashreplace").decode(),
            "bytes": file.stat().st_size,
            "sha256": models.sha256(file),
        }
        for part, file in files.items()
    }
    chosen = _chosen(arguments, ("model", *SETTINGS))
    chosen |= {name: getattr(arguments, name, None) for name in ("types", "first")}
    # Test data may change while a run waits to go on: it learns nothing from them.
    hashes = [file["sha256"] for part, file in read.items() if part != "test"]
    runs.claim(arguments.out, chosen, hashes, arguments.overwrite)
    return read


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


def _seconds(start: float) -> float:
    return round(time.perf_counter() - start, 2)


# ------------------------------------------------------------------------------ ner


def _check_types(types: Iterable[str], there: set[str], where: str) -> None:
    if missing := [kind for kind in types if kind not in there]:
        have = ", ".join(sorted(there)) or "none"
        raise BadInput(f"{where}: no name of type {missing[0]!r}; there is: {have}")


def ner_train(arguments: argparse.Namespace) -> int:
    """Teach a model to find names, score it, and write both into a folder."""
    start = time.perf_counter()
    _check_out(arguments)
    sentences = _read_training_sentences(arguments)

    from kie_course import ner

    learn = sentences["train"]
    if "dev" not in sentences:
        learn, sentences["dev"] = ner.hold_out(learn, arguments.seed)
    if not types_in(learn):
        raise BadInput(f"{arguments.train}: no name to learn from: every tag is O")
    _check_model(arguments)
    given = _chosen(arguments, data.SPLITS)
    files = _claim(arguments, {part: file for part, file in given.items() if file})
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
    report["settings"] = _looped(tagger, arguments) | counts | {"files": files}
    tagger.report = report
    runs.finish(arguments.out, tagger.save, report)
    return show(report, arguments.json, _ner_table(report))


def _read_training_sentences(arguments: argparse.Namespace) -> dict:
    files = _chosen(arguments, data.SPLITS)
    sentences = {name: data.read_conll(file) for name, file in files.items() if file}
    if arguments.types is not None:
        there = set().union(*map(types_in, sentences.values()))
        where = ", ".join(str(files[name]) for name in sentences)
        _check_types(arguments.types, there, where)
        for name in sentences:
            sentences[name] = keep_types(sentences[name], arguments.types)
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
    met = set().union(*map(types_in, sentences.values()))
    return {
        "types": sorted(known),
        "types_unknown_to_model": sorted(met - known),
        "sentences_longer_than_model": long,
    }


def ner_eval(arguments: argparse.Namespace) -> int:
    """Score a trained model on labelled sentences, and lay out a page if asked to."""
    start = time.perf_counter()
    if arguments.report:
        runs.check_page_folder(arguments.report)
    gold = data.read_conll(arguments.test)

    from kie_course import ner

    tagger = ner.load(arguments.model, arguments.device, arguments.bf16)
    there = _known_types(tagger) | types_in(gold)
    types = arguments.types or sorted(there)
    _check_types(types, there, f"{arguments.test}, {arguments.model}")
    if arguments.report:  # a folder that cannot be is told now, not after the work
        arguments.report.mkdir(parents=True, exist_ok=True)
    gold = keep_types(gold, types)
    shares = tagger.probabilities([s.words for s in gold], progress=True)
    labels = [ner.best_labels(rows, tagger.labels) for rows in shares]
    # A name of a type that was not asked for is no mistake.
    found = keep_types(map(Sentence, (s.words for s in gold), labels), types)
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
    table = _ner_table(report)
    if arguments.report:
        page = _ner_page(arguments, report, tagger, gold, found, shares)
        report["report"] = str(runs.write_page(arguments.report, page))
        table += f"\nreport: {report['report']}"
    return show(report, arguments.json, table)


def _ner_page(arguments, report, tagger, gold, found, shares) -> str:
    from kie_course import ner_report

    title = f"{Path(arguments.model).name} on {arguments.test.name}"
    facts = {
        "model": arguments.model,
        "file": arguments.test,
        **_ner_facts(report, tagger, gold, shares),
    }
    labels = [s.labels for s in found]
    return ner_report.page(
        title, report["test"], facts, gold, labels, shares, tagger.labels
    )


def _ner_facts(report, tagger, gold, shares) -> dict[str, Any]:
    """Count what is legal but worth knowing, for readers of the page."""
    from kie_course import ner

    scores, settings = report["test"], report["settings"]
    words = [s.words for s in gold]
    missed = ", ".join(
        f"{kind} {scores['per_type'][kind]['support']}"
        for kind in settings["types_unknown_to_model"]
    )
    never = ", ".join(sorted(set(settings["types"]) - types_in(gold)))
    long = settings["sentences_longer_than_model"]["test"]
    unread = sum(int((rows.sum(-1) == 0).sum()) for rows in shares)
    unknown = sum(ner.unknown_words(words, tagger.tokenizer))
    return {
        "device": settings["device"] + (", bfloat16" if settings["bf16"] else ""),
        "types": ", ".join(settings["types"]),
        "sentences": len(gold),
        "words": sum(map(len, words)),
        "sentences longer than the model, read in overlapping windows": long,
        "words outside of every window": unread,
        "words with something that the vocabulary does not have": unknown,
        "types that the model does not know, with mentions, all missed": missed or "–",
        "types that are not marked here": never or "–",
    }


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


def ner_predict(arguments: argparse.Namespace) -> int:
    """Find names in text, and print a JSON object for each."""
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
    if not answered(collection.judgements[split]):
        raise BadInput(f"{path}: no grade above 0: no query has an answer")


def retrieval_train(arguments: argparse.Namespace) -> int:
    """Teach a model to find documents, and write it and its report."""
    start = time.perf_counter()
    _check_out(arguments)
    collection = data.read_beir(arguments.data)
    usable = _usable(arguments.data, collection)

    from kie_course import retrieval

    # Once now, so that nothing is cleared for a model that is not there.
    retrieval.load(arguments.model, arguments.device, arguments.bf16)
    files = _claim(arguments, _files(arguments.data, usable))
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
            **_longer_than_model(encoder, collection, "train"),
            "files": files,
        },
    }
    encoder.report = report
    runs.finish(arguments.out, encoder.save, report)
    rows = {"untouched, dev": report["before"], "tuned, dev": report["metrics"]}
    return show(report, arguments.json, _retrieval_table(rows))


def retrieval_train_reranker(arguments: argparse.Namespace) -> int:
    """Teach a model to re-rank what a first stage finds, and write it."""
    start = time.perf_counter()
    _check_out(arguments)
    collection = data.read_beir(arguments.data)
    usable = _usable(arguments.data, collection)
    _check_model(arguments)

    from kie_course import rerank

    if rerank.is_reranker(arguments.first):
        raise BadInput(
            f"--first {arguments.first} is a re-ranker: name its first stage"
        )
    rerank.check_size(usable, usable.judgements["train"])
    first = _rank_system(arguments, arguments.first, collection)
    files = _claim(arguments, _files(arguments.data, usable))
    cross = rerank.train(
        usable,
        first,
        _lasting(arguments.first),
        model=arguments.model,
        settings=_settings(arguments),
        folder=arguments.out,
    )
    report = {
        "metrics": cross.report["metrics"],
        "before": cross.report["before"],
        "loss": _ends(cross.history.loss),
        "seconds": _seconds(start),
        "settings": {
            **_looped(cross, arguments),
            **_describe(collection, "train"),
            "files": files,
        },
    }
    cross.report = report
    runs.finish(arguments.out, cross.save, report)
    rows = {"first stage, dev": report["before"], "re-ranked, dev": report["metrics"]}
    lines = [f"loss from {report['loss'][0]:.3f} to {report['loss'][1]:.3f}"]
    return show(report, arguments.json, "\n".join([_retrieval_table(rows), *lines]))


def _lasting(system: str) -> str:
    """A system's name that holds in any working directory."""
    from kie_course import systems

    kind, colon, name = system.rpartition(":")
    if name in systems.KNOWN or not Path(name).is_dir():
        return system
    return f"{kind}{colon}{Path(name).absolute()}"


def _ends(loss: Sequence[tuple[int, float]]) -> list[float]:
    """The mean loss of the first and of the last tenth of the steps: does it move?"""
    tenth = max(1, len(loss) // 10)
    parts = ([value for _, value in part] for part in (loss[:tenth], loss[-tenth:]))
    return [sum(values) / len(values) for values in parts]


def _usable(folder: Path, collection: Beir) -> Beir:
    """The queries that can be learned from: those that some document answers."""
    for split in ("train", "dev"):
        if split == "train" or split in collection.judgements:
            _check_split(folder, collection, split)
    judgements = {s: answered(j) for s, j in collection.judgements.items()}
    if len(judgements["train"]) < 2 and "dev" not in judgements:
        path = folder / "qrels" / "train.tsv"
        raise BadInput(f"{path}: one query only; judge more, or add dev.tsv")
    return Beir(collection.documents, collection.queries, judgements)


def _files(folder: Path, collection: Beir) -> dict[str, Path]:
    """What a run learns from, by the files' names below the folder."""
    splits = [s for s in ("train", "dev") if s in collection.judgements]
    qrels = [f"qrels/{split}.tsv" for split in splits]
    return {name: folder / name for name in ("corpus.jsonl", "queries.jsonl", *qrels)}


def _on_dev(arguments, collection: Beir, encoder: Any, step: int) -> dict[str, float]:
    """Metrics on dev at a step: 0 (untouched) or the best, which `encoder` holds."""
    from kie_course import retrieval

    for row in encoder.report["dev"]:
        if row["step"] == step:
            return {name: row[name] for name in retrieval.METRICS}
    # Evaluated before the run was interrupted: evaluate once more.
    _, dev = retrieval.learn_and_dev(collection.judgements, arguments.seed)
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
        "queries_without_answer": len(judged) - len(answered(judged)),
        "queries_without_judgement": len(collection.queries) - len(anywhere),
        "grade_0_judgements": sum(grade <= 0 for grade in grades),
    }


def _longer_than_model(encoder: Any, collection: Beir, split: str) -> dict[str, int]:
    """Count the documents read in windows, and the queries read in part."""
    queries = [collection.queries[query] for query in collection.judgements[split]]
    windows = encoder.passages(list(collection.documents.values()))
    return {
        "documents_longer_than_model": sum(len(row) > 1 for row in windows),
        "passages": sum(map(len, windows)),
        "queries_cut": sum(len(row) > 1 for row in encoder.passages(queries)),
    }


def _encoder_of(ranker: Any) -> Any:
    """The bi-encoder inside a ranker, if it has one."""
    ranker = getattr(ranker, "first", ranker)
    parts = getattr(ranker, "rankers", (ranker,))
    return next((part.model for part in parts if hasattr(part, "model")), None)


def _rank_system(arguments: argparse.Namespace, system: str, collection: Beir) -> Any:
    from kie_course import systems

    return systems.ranker(
        system, collection.documents, arguments.device, arguments.bf16, progress=True
    )


def retrieval_eval(arguments: argparse.Namespace) -> int:
    """Score a way of searching, or two and their difference, with a page if asked."""
    start = time.perf_counter()
    if arguments.report:
        runs.check_page_folder(arguments.report)
    collection, split = data.read_beir(arguments.data), arguments.split
    _check_split(arguments.data, collection, split)

    from kie_course import retrieval
    from kie_course.ranking import Remembered

    against = arguments.against or (arguments.report and "bm25")
    names = [arguments.model, against] if against else [arguments.model]
    rankers = [Remembered(_rank_system(arguments, n, collection)) for n in names]
    if arguments.report:  # a folder that cannot be is told now, not after the work
        arguments.report.mkdir(parents=True, exist_ok=True)
    values = [retrieval.evaluate(ranker, collection, split) for ranker in rankers]
    means = [retrieval.mean(scores) for scores in values]
    report = {"metrics": means[0]}
    if against:
        report["against"] = _compare(against, *values)
    settings = _about(arguments, rankers[0].ranker, collection)
    report |= {"seconds": _seconds(start), "settings": settings}
    table = _retrieval_table(dict(zip(names, means, strict=True)))
    table += _interval_lines(report.get("against"))
    if arguments.report:
        page = _retrieval_page(names, settings, collection, rankers, values)
        report["report"] = str(runs.write_page(arguments.report, page))
        table += f"\nreport: {report['report']}"
    return show(report, arguments.json, table)


def _about(arguments: argparse.Namespace, ranker: Any, collection: Beir) -> dict:
    """What a report says of a system and of what it searched."""
    encoder = _encoder_of(ranker)
    settings = _used(arguments, getattr(ranker, "cross", encoder))
    settings |= _describe(collection, arguments.split)
    if encoder:
        settings |= _longer_than_model(encoder, collection, arguments.split)
    return settings


def _retrieval_page(names, settings, collection, rankers, values) -> str:
    from kie_course import retrieval_report

    split = settings["split"]
    facts = {name.replace("_", " "): value for name, value in settings.items()}
    rankings = [retrieval_report.ranked(r, collection, split) for r in rankers]
    return retrieval_report.page(names, facts, collection, split, values, rankings)


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


def retrieval_index(arguments: argparse.Namespace) -> int:
    """Write an index of a collection, or add to one what it lacks."""
    start = time.perf_counter()
    corpus = arguments.data / "corpus.jsonl"
    for _ in data.read_documents(corpus):  # a fault is told before anything is written
        pass

    from kie_course import encoder, index

    model = encoder.named(arguments.model, arguments.device, arguments.bf16)
    added = index.extend(
        arguments.out,
        model,
        arguments.model,
        lambda: data.read_documents(corpus),
        progress=True,
    )
    stored = index.open_index(arguments.out, model)
    report = {
        "documents": len(stored.ids),
        "added": added,
        "passages": len(stored.owners),
        "bytes": sum(f.stat().st_size for f in arguments.out.rglob("*") if f.is_file()),
        "seconds": _seconds(start),
        "settings": _used(arguments, model),
    }
    counted = ("documents", "added", "passages", "bytes")
    table = "\n".join(f"{name:10} {report[name]:12,}" for name in counted)
    return show(report, arguments.json, table)


def retrieval_search(arguments: argparse.Namespace) -> int:
    """Search a collection, or its index, for a question, and print the hits."""
    question = _readable("the question", arguments.question)
    search = _search_data if arguments.index is None else _search_index
    found, texts = search(arguments, question)
    results = [
        {"rank": i, "score": score, "id": key, "text": texts[key]}
        for i, (key, score) in enumerate(found, start=1)
    ]
    report = {"question": question, "results": results}
    return show(report, arguments.json, _hits(results))


def _search_data(arguments: argparse.Namespace, question: str) -> tuple:
    if arguments.data is None or arguments.model is None:
        raise BadInput("say where to search: --index, or both --data and --model")
    collection = data.read_beir(arguments.data)
    ranker = _rank_system(arguments, arguments.model, collection)
    return ranker.rank([question], arguments.k)[0], collection.documents


def _search_index(arguments: argparse.Namespace, question: str) -> tuple:
    from kie_course import encoder, index

    name = arguments.model or index.model_of(arguments.index)
    model = encoder.named(name, arguments.device, arguments.bf16)
    stored = index.open_index(arguments.index, model)
    found = index.search(model, stored, question, arguments.k)
    return found, index.read_texts(arguments.index, dict(found))


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
    line = " ".join(text.partition("\n")[0].split())
    if len(line) <= 60:
        return line or "(empty)"
    # One long word, or a script without spaces, is cut where it must be.
    return (textwrap.shorten(line, 58, placeholder="") or line[:58]) + " …"
