"""The output folder of a training run: never half a model, never another's files.

A run that begins writes `kie-run.json`: what it was told. A run that ends writes
`report.json` last and deletes everything that only an interrupted run needs. An
evaluation writes a page into a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kie_course import BadInput

# Everything that a run writes into its folder, and nothing else is deleted.
STARTED, REPORT = "kie-run.json", "report.json"
RUN_FOLDERS = ("checkpoint", "checkpoint.new", "checkpoint.old", "saving")
RUN_FILES = (
    STARTED,
    REPORT,
    "README.md",
    "retrieval.json",
    "rerank.json",
    "head.json",
    "head.safetensors",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
PAGE = "index.html"
"""The report page of an evaluation."""
PAGE_MARK = '<meta name="generator" content="kie-course">'


def is_main() -> bool:
    """Whether this process is the one that writes and prints.

    `torchrun` numbers the processes that it starts.
    """
    return os.environ.get("RANK", "0") == "0"


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds what must not be lost.

    Raises:
        BadInput: a file, a folder with files that no run wrote, or a finished run that
            nobody said to overwrite.
    """
    if not is_main():
        return
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


def claim(
    out: Path, chosen: Mapping[str, Any], hashes: Sequence[str], overwrite: bool
) -> None:
    """Note in the output folder which run begins, or goes on, there.

    Args:
        out: a folder that `check_out` let pass.
        chosen: settings and model, which must be equal for a run to go on.
        hashes: of the data, which must be equal too.
        overwrite: delete what a run left there.

    Raises:
        BadInput: another run was interrupted there.
    """
    if not is_main():
        return
    out.mkdir(parents=True, exist_ok=True)
    if overwrite:
        _clear(out)
    identity = {**chosen, "data": list(hashes)}
    text, started = json.dumps(identity, indent=1), out / STARTED
    if started.exists() and started.read_text(encoding="utf-8") != text:
        raise BadInput(
            f"{out} holds an interrupted run with other settings or data: repeat its "
            "command to go on, or start anew with --overwrite"
        )
    started.write_text(text, encoding="utf-8")


def _clear(out: Path) -> None:
    _clear_folders(out)
    for name in RUN_FILES:
        (out / name).unlink(missing_ok=True)


def _clear_folders(out: Path) -> None:
    for name in RUN_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)


def finish(out: Path, save: Callable[[Path], None], report: dict) -> None:
    """Save beside, then move in, report last: half a run never looks like a whole.

    Args:
        out: the folder that `claim` noted the run in.
        save: writes the model into a folder.
        report: what the run found.
    """
    from safetensors import SafetensorError

    if not is_main():
        return
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
    _clear_folders(out)


def check_page_folder(folder: Path) -> None:
    """Refuse a folder for a report page that holds something else.

    Raises:
        BadInput: a file, or a folder with anything but such a page.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: name a folder")
    if folder.is_dir() and not all(map(_is_page, folder.iterdir())):
        raise BadInput(f"{folder} holds files that are no report: name an empty folder")


def _is_page(path: Path) -> bool:
    if path.name != PAGE or not path.is_file():
        return False
    return PAGE_MARK in path.read_text(encoding="utf-8", errors="replace")[:500]


def write_page(folder: Path, text: str) -> Path:
    """Write a report page into a folder that `check_page_folder` let pass."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(text, encoding="utf-8")
    return folder / PAGE
