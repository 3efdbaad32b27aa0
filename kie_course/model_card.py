"""The model card: a README.md beside the weights, in the form of the Hugging Face hub.

It follows from a run's report alone and holds no times, so equal runs give equal cards.
Mitchell et al. (2019), *Model Cards for Model Reporting*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kie_course import layout

NAME = "README.md"

FEW = 30
"""A score that rests on fewer mentions is named among the limits."""

TASKS = {
    "ner": {
        "title": "Names in text",
        "tag": "token-classification",
        "what": "Marks names in text: one label a word, in IOB2. Fine-tuned with "
        "`kie-course ner train` (one label on the first piece of each word, "
        "cross-entropy).",
        "use": 'kie-course ner predict --model DIR --text "…"',
        "limits": (
            "Names of types that are not in the title are not found.",
            "Scores are strict: a name counts if its ends and its type are right. They "
            "hold for texts like those they were measured on.",
            "Names can be found unequally often by their origin; this run did not "
            "measure it. Do not decide about persons by it alone.",
        ),
    },
    "retrieval": {
        "title": "Texts that answer a question",
        "tag": "sentence-similarity",
        "what": "Turns texts into vectors; the cosine of two says how well they fit. "
        "Fine-tuned with `kie-course retrieval train` (InfoNCE, negatives from the "
        "batch).",
        "use": 'kie-course retrieval search --data COLLECTION --model DIR "…"',
        "limits": (
            "A high score says that two texts are alike, not that one is true: a "
            "negation, or who did what to whom, hardly moves it.",
            "Documents that nobody judged count as wrong in the scores. They hold for "
            "collections like the one they were measured on.",
        ),
    },
    "rerank": {
        "title": "A better order for texts that may answer a question",
        "tag": "text-ranking",
        "what": "Reads a question and a text together and gives one number, the higher "
        "the better the text answers. Re-ranks what a first stage found. Fine-tuned "
        "with `kie-course retrieval train-reranker` (a softmax over an answer and hard "
        "negatives).",
        "use": 'kie-course retrieval search --data COLLECTION --model DIR "…"',
        "limits": (
            "What the first stage misses is lost; another first stage makes other "
            "mistakes than those it learned from.",
            "Documents that nobody judged count as wrong in the scores. They hold for "
            "collections like the one they were measured on.",
        ),
    },
}
"""What a card says of a recipe, whatever its data."""


def write(folder: str | Path, task: str, report: Mapping[str, Any]) -> None:
    """Write the card of a run into its folder.

    Args:
        folder: where the weights are.
        task: a key of `TASKS`.
        report: what the run found: `settings` and scores.
    """
    (Path(folder) / NAME).write_text(text(task, report), encoding="utf-8")


def text(task: str, report: Mapping[str, Any]) -> str:
    """The card of a run; see `write`."""
    about, settings = TASKS[task], report["settings"]
    scores, base = _scores(report), settings["base"]
    types = ", ".join(settings.get("types", ()))
    parts = [
        f"---\n{_header(task, base, scores)}\n---",
        f"# {about['title']}{types and ': '}{types}",
        about["what"],
        f"```bash\n{about['use']}\n```",
        "## Data",
        _data(settings.get("files", {})),
        "## Base model",
        layout.table(["", ""], _base(base)),
        "## Scores",
        layout.table(["", *_metrics(scores)], _score_rows(scores)),
        "## Settings",
        layout.table(["setting", "value"], _plain(settings)),
        "## Versions",
        layout.table(["package", "version"], settings["versions"].items()),
        "## Limits",
        "\n".join(f"- {limit}" for limit in (*about["limits"], *_limits(scores))),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(report: Mapping[str, Any]) -> dict[str, Mapping]:
    """The rows of the table of scores, by name."""
    if "metrics" in report:
        before = "first stage" if "first" in report["settings"] else "untouched"
        return {f"dev, {before}": report["before"], "dev": report["metrics"]}
    if isinstance(report.get("dev"), list):  # of a retriever, at each evaluation
        return {f"dev, step {row['step']}": row for row in report["dev"]}
    return {name: report[name] for name in ("dev", "test") if name in report}


def _metrics(scores: Mapping[str, Mapping]) -> list[str]:
    known = ("precision", "recall", "f1", "ndcg@10", "mrr@10", "recall@100", "support")
    rows = [row for top in scores.values() for row in (top, *_kinds(top).values())]
    return [name for name in known if any(name in row for row in rows)]


def _kinds(row: Mapping) -> Mapping[str, Mapping]:
    return row.get("per_type", {})


def _score_rows(scores: Mapping[str, Mapping]) -> Iterable[list]:
    def shown(value: float | int | str) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    for name, row in scores.items():
        named = {f"{name}, {kind}": found for kind, found in _kinds(row).items()}
        for title, values in {name: row, **named}.items():
            found = (values.get(metric, "–") for metric in _metrics(scores))
            yield [title, *map(shown, found)]


def _plain(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in settings.items():
        # Told elsewhere; and an interruption changes nothing in what a run gives.
        if name in ("base", "model", "files", "versions", "resumed_at"):
            continue
        if isinstance(value, Mapping):
            value = [f"{key} {x}" for key, x in value.items()]
        if isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        yield name, value


def _header(task: str, base: Mapping, scores: Mapping[str, Mapping]) -> str:
    """What the hub reads: YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=TASKS[task]["tag"],
            dataset_type="own",
            dataset_name="own",
            dataset_split=split,
            metric_type=metric,
            metric_value=round(scores[split][metric], 4),
        )
        for split in ("dev", "test")
        if split in scores
        for metric in _metrics(scores)
        if metric in scores[split]
    ]
    data = ModelCardData(
        base_model=base["hub"],
        license=base["licence"],
        library_name="transformers",
        pipeline_tag=TASKS[task]["tag"],
        tags=["kie-course"],
        model_name=f"kie-course-{task}",
        eval_results=results,
    )
    return data.to_yaml()


def _base(base: Mapping) -> list[tuple[str, str]]:
    licence = base["licence"] or "not stated beside it: ask its publisher"
    return [
        ("name", base["name"]),
        ("licence", f"{licence}; the training data may add terms of their own"),
        *((f"SHA-256 of {name}", digest) for name, digest in base["weights"].items()),
    ]


def _data(files: Mapping[str, Mapping]) -> str:
    if not files:
        return "Trained from memory: which files the data came from is not known."
    rows = [(part, f["name"], f["bytes"], f["sha256"]) for part, f in files.items()]
    return layout.table(["part", "file", "bytes", "SHA-256"], rows)


def _limits(scores: Mapping[str, Mapping]) -> Iterable[str]:
    if "test" not in scores:
        yield "No score on test data. Dev chose the weights: its scores are too good."
    for name, row in scores.items():
        counts = {kind: found["support"] for kind, found in _kinds(row).items()}
        few = ", ".join(f"{k} {count}" for k, count in counts.items() if count < FEW)
        if few:
            yield f"Scores on {name} that rest on few names: {few}."
