"""Run the lessons, write their committed form, and tell whether it is fresh.

`run` executes into a build folder; `refresh` writes the committed form in place;
`stale` says why a committed notebook no longer holds. In a lesson, `settings` gives the
values of the profile and `record` publishes a metric that the tests read.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kie_course import SEED, BadInput, layout, models

if TYPE_CHECKING:
    from nbformat import NotebookNode

PROFILES = Path(__file__).with_name("profiles.toml")
# The cell of lesson 06 whose figure the README shows.
PICTURE = "test-figure"
RECORD = "application/vnd.kie-course.record+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
LESSON_FILE = re.compile(r"(\d\d[a-z]?)_[\w-]+\.ipynb")
# Cells that papermill writes; they are no part of a lesson.
FOREIGN_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
PYTHON_WARNING = re.compile(r"^.*:\d+: (\w*Warning: .*)$", re.MULTILINE)
# A warning that contains one of these does not fail a refresh.
ALLOWED_WARNINGS = ("TqdmExperimentalWarning",)
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
ASSIGNED = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=(?!=)", re.MULTILINE)
COMMITTED_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class LessonFailed(RuntimeError):
    """A lesson that cannot stand; the message is one sentence.

    `lesson` is its number, `cell` the position of the cell in the file (from 1),
    `source` that cell's text and `error` what happened there.
    """

    def __init__(self, lesson: str, cell: int, source: str, error: str) -> None:
        self.lesson, self.cell, self.source, self.error = lesson, cell, source, error
        first = next((line.strip() for line in source.splitlines() if line.strip()), "")
        super().__init__(f"lesson {lesson}, cell {cell} ({first}): {error}")


# ------------------------------------------------------------------ inside a lesson


def settings(
    lesson: str, profile: str | None = None, **overrides: Any
) -> SimpleNamespace:
    """Give the profile's values for a lesson; an override of None changes nothing.

    Without a profile, the environment variable `KIE_PROFILE` decides, else "cpu".
    Raises `BadInput` for an unknown profile, lesson or name.
    """
    profile = profile or os.environ.get("KIE_PROFILE") or "cpu"
    table = _profile(profile)
    if lesson not in table:
        raise BadInput(f"lesson {lesson!r} has no values in profile {profile!r}")
    values = dict(table[lesson])
    for name, value in overrides.items():
        if name not in values:
            known = ", ".join(values)
            raise BadInput(f"lesson {lesson} has no parameter {name!r}: it has {known}")
        if value is not None:
            values[name] = value
    return SimpleNamespace(**values)


def record(name: str, value: float | int | str | list | dict) -> None:
    """Publish a metric in the notebook's outputs, where no reader sees it.

    Two numbers named `before/x` and `after/x` become one row of the table that `run`
    prints. Raises `BadInput` for a value that JSON cannot hold, NaN among them.
    """
    try:
        value = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"record {name!r} needs a plain, finite value: {error}"
        ) from None
    if name.startswith(("before/", "after/")) and not isinstance(value, int | float):
        raise BadInput(f"record {name!r} needs a number, not {value!r}")
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is not None:
        display({RECORD: {"name": name, "value": value}}, raw=True)


def probe() -> None:
    """Record what only the kernel knows; `execute` appends a cell that calls this."""
    torch = sys.modules.get("torch")
    device = "cpu"
    if torch is not None and torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    elif torch is not None and torch.backends.mps.is_available():
        device = "mps"
    memory = _peak_memory_mb()
    record("probe", {"peak_memory_mb": memory, "device": device, "seed": SEED})


def _peak_memory_mb() -> int:
    # On Linux getrusage's peak survives exec: a kernel would report the memory of the
    # process that started it. VmHWM is the peak of the program itself.
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024
    except (OSError, TypeError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // (2**20 if sys.platform == "darwin" else 2**10)


def _profile(name: str) -> dict[str, dict]:
    profiles = tomllib.loads(PROFILES.read_text(encoding="utf-8"))
    if name not in profiles:
        raise BadInput(f"profile {name!r} is unknown: use {', '.join(profiles)}")
    return profiles[name]


# ------------------------------------------------------------------------ executing


def lessons(names: Sequence[str] = ()) -> list[Path]:
    """Give the lessons' notebooks in order: all, or those with the given numbers.

    Raises `BadInput` for a number that no notebook has.
    """
    from kie_course.data import home

    folder = home() / "notebooks"
    paths = sorted(p for p in folder.glob("*.ipynb") if LESSON_FILE.fullmatch(p.name))
    known = [_number(path) for path in paths]
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise BadInput(f"no lesson {name!r} in {folder}: there is {there}")
    return [path for path in paths if not names or _number(path) in names]


def execute(
    path: Path,
    profile: str,
    parameters: dict[str, Any] | None = None,
    progress: bool = True,
    out: str | Path = "build",
) -> NotebookNode:
    """Execute a notebook in its own folder and give the executed one.

    It is written to `out/NAME.PROFILE.ipynb`, also when a cell fails, as far as it
    came. Its `metadata.kie_run` holds seconds, peak memory, device and seed.
    Raises `BadInput` for an unknown profile or parameter or a file that is no notebook,
    `LessonFailed` when a cell fails.
    """
    import nbformat.v4
    import papermill
    from nbclient.exceptions import DeadKernelError

    _profile(profile)
    path = Path(path).resolve()
    nb = _read(path)
    nb.cells = [cell for cell in nb.cells if not FOREIGN_TAGS & _tags(cell)]
    _check_parameters(nb, path, parameters or {})
    call = "from kie_course.notebooks import probe; probe()"
    nb.cells.append(nbformat.v4.new_code_cell(call, id="kie-probe"))
    target = Path(out).resolve() / f"{path.stem}.{profile}.ipynb"
    _write(nb, target)
    start = time.perf_counter()
    # What fails stands in the executed notebook: no need to look at the exception.
    with contextlib.suppress(papermill.PapermillExecutionError, DeadKernelError):
        papermill.execute_notebook(
            target,
            target,
            parameters=parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=_kernel_manager(profile),
            progress_bar={"desc": path.stem} if progress else False,
            cwd=path.parent,
        )
    seconds = round(time.perf_counter() - start, 1)
    nb = _read(target)
    ran = dict(_published([nb.cells.pop()]))
    nb.metadata["kie_run"] = {"seconds": seconds, **ran.get("probe", {})}
    _write(nb, target)
    if not ran:
        raise _failure(nb, _number(path))
    return nb


def records(nb: NotebookNode) -> dict[str, Any]:
    """Give the metrics that an executed notebook recorded.

    Raises `BadInput` for a name that was recorded twice.
    """
    metrics: dict[str, Any] = {}
    for name, value in _published(nb.cells):
        if name in metrics:
            raise BadInput(f"the metric {name!r} is recorded twice")
        metrics[name] = value
    return metrics


def _published(cells: Sequence[NotebookNode]) -> Iterator[tuple[str, Any]]:
    for cell in cells:
        for output in cell.get("outputs", []):
            if RECORD in output.get("data", {}):
                yield output.data[RECORD]["name"], output.data[RECORD]["value"]


def _kernel_manager(profile: str) -> type:
    """A kernel manager for this interpreter, whatever kernelspecs are installed."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    # A backend set for scripts (MPLBACKEND=agg) would leave lessons without figures.
    backend = "module://matplotlib_inline.backend_inline"
    env = {"KIE_PROFILE": profile, "MPLBACKEND": backend}

    # ipykernel warns of plain TCP at every start, across the progress bar; it stays on
    # this machine.
    kernel = get_kernel_dict(extra_arguments=["--log-level=ERROR"])

    class ThisPython(AsyncKernelManager):
        kernel_spec = KernelSpec(resource_dir=RESOURCES, env=env, **kernel)

    return ThisPython


def _check_parameters(nb: NotebookNode, path: Path, parameters: dict[str, Any]) -> None:
    # papermill only warns about an unknown parameter; its own reader of the parameters
    # cell needs a kernelspec, which a draft may lack.
    sources = [cell.source for cell in nb.cells if "parameters" in _tags(cell)]
    known = ASSIGNED.findall("\n".join(sources))
    for name in parameters:
        if name not in known:
            there = ", ".join(known) or "none"
            raise BadInput(f"{path.name} has no parameter {name!r}: there is {there}")


def _failure(nb: NotebookNode, lesson: str) -> LessonFailed:
    number, last = 0, (0, "")
    for cell in nb.cells:
        number += not FOREIGN_TAGS & _tags(cell)
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                reason = next(iter(output.evalue.splitlines()), "")
                error = f"{output.ename}: {reason}"
                return LessonFailed(lesson, number, cell.source, error)
        if cell.metadata.get("papermill", {}).get("start_time"):
            last = (number, cell.source)
    return LessonFailed(lesson, *last, "the kernel died (out of memory?)")


# ------------------------------------------------------------------ run and refresh


def run(
    names: Sequence[str], profile: str, out: str | Path = "build", progress: bool = True
) -> list[dict]:
    """Execute lessons into `out`, and print what was before beside what is after.

    Each lesson's metrics, versions, seconds, peak memory, seed and device are written
    to `out/results/NN.PROFILE.json` and returned.
    Raises `BadInput` and `LessonFailed` as `execute` does.
    """
    _profile(profile)  # an unknown one is refused before anything else
    results = []
    for path in lessons(names):
        nb = execute(path, profile, {"profile": profile}, progress, out)
        results.append(_result(nb, path, profile))
        target = Path(out) / "results" / f"{_number(path)}.{profile}.json"
        _replace(target, json.dumps(results[-1], indent=2, ensure_ascii=False) + "\n")
    print(before_after(results))
    return results


def before_after(results: Sequence[dict]) -> str:
    """Lay out the pairs `before/x`, `after/x` of all results as an aligned table."""
    rows = [PAIRS, *(row for result in results for row in _pairs(**result))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligns = "<<>>>"
    return "\n".join(
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, aligns, widths, strict=True))
        for row in rows
    )


PAIRS = ("lesson", "metric", "before", "after", "change")


def _pairs(lesson: str, metrics: dict, **_: Any) -> Iterator[tuple[str, ...]]:
    for name in metrics:
        metric = name.removeprefix("before/")
        if metric != name and f"after/{metric}" in metrics:
            before, after = metrics[name], metrics[f"after/{metric}"]
            numbers = f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"
            yield lesson, metric, *numbers


def refresh(
    names: Sequence[str] = (), out: str | Path = "build", progress: bool = True
) -> list[dict]:
    """Execute lessons with the cpu profile and write their committed form in place.

    Raises `BadInput` and `LessonFailed` as `execute` does, `LessonFailed` also for a
    Python warning or a memory address in the outputs; the file is then untouched.
    """
    results = []
    try:
        for path in lessons(names):
            before = path.read_bytes()
            nb = execute(path, "cpu", None, progress, out)
            result = _result(nb, path, "cpu")
            _refuse_unclean(nb, _number(path))
            if path.read_bytes() != before:
                raise BadInput(f"{path.name} was edited while it ran: refresh it again")
            nb = _committed(nb)
            volatile = {key: result[key] for key in ("seconds", "peak_memory_mb")}
            sources = _sources(nb, _number(path))
            nb.metadata.kie.update(profile="cpu", sources=sources, volatile=volatile)
            _write(nb, path)
            results.append(result)
    finally:  # of the lessons before one that failed, too
        if results:
            _update_readme()
    return results


def lesson_table() -> str:
    """The README's table of lessons: title, study hours, measured time and memory."""
    rows = [
        "| lesson | title | path | study | time | memory |",
        "|---|---|---|---|---|---|",
    ]
    for path in lessons():
        kie = _read(path).metadata.kie
        took = kie.get("volatile")
        if took is None:  # never refreshed yet
            continue
        link = f"[{_number(path)}](notebooks/{path.name})"
        way = "core" if kie.core else "optional"
        rows.append(
            f"| {link} | {kie.title} | {way} | {kie.study_hours} h "
            f"| {took.seconds:.0f} s | {took.peak_memory_mb / 1000:.1f} GB |"
        )
    return "\n".join(rows)


def figures_table() -> str:
    """The README's table of what fine-tuning gained, from the committed lessons."""
    books = [(_number(path), _read(path)) for path in lessons()]
    rows = [row for name, nb in books for row in _pairs(name, records(nb))]
    return layout.table(PAIRS, rows, left=2)


def picture() -> bytes:
    """The README's picture: lesson 06's test scores as PNG, as that lesson drew them.

    Raises `BadInput` where the lesson has no such figure.
    """
    import base64

    (path,) = lessons(["06"])
    for cell in _read(path).cells:
        for output in cell.get("outputs", []) if cell.id == PICTURE else []:
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"])
    raise BadInput(f"{path.name} has no figure in the cell {PICTURE!r}")


def _update_readme() -> None:
    """Bring the README's tables and picture up to date, where there is a README."""
    from kie_course.data import home

    readme = home() / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        for name, table in (("lessons", lesson_table), ("figures", figures_table)):
            head, start, rest = text.partition(f"<!-- {name} -->\n")
            _, end, tail = rest.partition(f"<!-- /{name} -->")
            if end:
                text = f"{head}{start}{table()}\n{end}{tail}"
        _replace(readme, text)
        (home() / "docs" / "result.png").write_bytes(picture())


def _result(nb: NotebookNode, path: Path, profile: str) -> dict:
    head = {"lesson": _number(path), "profile": profile, "metrics": records(nb)}
    return {**head, **nb.metadata.kie_run, "versions": models.versions()}


def _refuse_unclean(nb: NotebookNode, lesson: str) -> None:
    for number, cell in enumerate(nb.cells, 1):
        outputs = cell.get("outputs", [])
        errors = "".join(o.text for o in outputs if o.get("name") == "stderr")
        for warning in PYTHON_WARNING.findall(errors):
            if not any(allowed in warning for allowed in ALLOWED_WARNINGS):
                raise LessonFailed(lesson, number, cell.source, warning)
        shown = "\n".join(map(_plain, _clean_outputs(outputs, 0)))
        if "volatile" not in _tags(cell) and (address := ADDRESS.search(shown)):
            error = f"shows a memory address ({address[0]}), new in every run"
            raise LessonFailed(lesson, number, cell.source, error)


def _plain(output: NotebookNode) -> str:
    return output.get("text", "") + output.get("data", {}).get("text/plain", "")


# --------------------------------------------------------------- the committed form


def stale(path: Path) -> list[str]:
    """Say why a committed notebook is not fresh, a sentence a reason; none: fresh."""
    path = Path(path)
    try:
        nb = _read(path)
    except BadInput as error:
        return [str(error)]
    reasons = list(_stale_cells(nb))
    sources = nb.metadata.get("kie", {}).get("sources")
    if sources is None:
        reasons.append(
            "metadata.kie.sources is missing: the notebook was not refreshed"
        )
    elif sources != _sources(nb, _number(path)):
        reasons.append("code or the lesson's cpu profile changed after the refresh")
    if "widgets" in nb.metadata:
        reasons.append("the metadata holds widget state")
    if not reasons and _text(_committed(nb)) != path.read_text(encoding="utf-8"):
        reasons.append("the file is not in the form that refresh writes")
    return reasons


def _stale_cells(nb: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the execution counts are not 1 to {len(counts)}"
    for number, cell in enumerate(nb.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {number} holds an error"
            if output.get("name") == "stderr":
                yield f"cell {number} holds standard-error output"
            if WIDGET in output.get("data", {}):
                yield f"cell {number} holds a widget"


def alt_text(output: NotebookNode) -> str | None:
    """Give an output's alternative text; "" if it is an image without, None if none."""
    mime = next((m for m in output.get("data", {}) if m.startswith("image/")), None)
    if mime is None:
        return None
    found = output.get("metadata", {})
    return found.get(mime, {}).get("alt") or found.get("alt") or ""


def _committed(nb: NotebookNode) -> NotebookNode:
    """What readers see, in one fixed form, and nothing that changes from run to run."""
    from nbformat import from_dict

    kie = {"kie": nb.metadata.get("kie", {})}
    counts = itertools.count(1)
    cells = [
        _clean_cell(cell, next(counts) if cell.cell_type == "code" else None)
        for cell in nb.cells
    ]
    head = {"nbformat": 4, "nbformat_minor": 5, "metadata": COMMITTED_METADATA | kie}
    return from_dict({**head, "cells": cells})


def _clean_cell(cell: NotebookNode, count: int | None) -> dict:
    kept = ("attachments", "cell_type", "id", "source")
    clean = {key: cell[key] for key in kept if key in cell}
    clean["metadata"] = {
        k: cell.metadata[k] for k in ("nbgrader",) if k in cell.metadata
    }
    if tags := cell.metadata.get("tags"):
        clean["metadata"]["tags"] = tags
    if cell.metadata.get("jupyter", {}).get("source_hidden"):
        clean["metadata"]["jupyter"] = {"source_hidden": True}
    if count is not None:
        clean["execution_count"] = count
        clean["outputs"] = _clean_outputs(cell.outputs, count)
    return clean


def _clean_outputs(outputs: Sequence[NotebookNode], count: int) -> list[dict]:
    clean: list[dict] = []
    for output in outputs:
        if output.output_type == "stream":
            # How a cell's text is cut into chunks depends on timing.
            if output.name == "stdout" and clean and clean[-1].get("name") == "stdout":
                clean[-1]["text"] += output.text
            elif output.name == "stdout":
                clean.append(dict(output))
        elif output.output_type == "error":
            clean.append(dict(output))
        elif WIDGET not in output.data:
            clean.append(_clean_display(output, count))
    return clean


def _clean_display(output: NotebookNode, count: int) -> dict:
    data = dict(output.data)
    if "image/png" in data:
        data = {m: data[m] for m in ("image/png", "text/plain") if m in data}
    clean = {"output_type": output.output_type, "data": data, "metadata": {}}
    if alt := alt_text(output):
        mime = next(m for m in data if m.startswith("image/"))
        clean["metadata"] = {mime: {"alt": alt}}
    if output.output_type == "execute_result":
        clean["execution_count"] = count
    return clean


def _sources(nb: NotebookNode, lesson: str) -> str:
    """What outputs depend on: code cells and the profile, and no word of the prose."""
    code = (cell for cell in nb.cells if cell.cell_type == "code")
    cells = [[cell.source, sorted(_tags(cell))] for cell in code]
    values = _profile("cpu").get(lesson, {})
    text = json.dumps([cells, values], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(path: Path) -> str:
    match = LESSON_FILE.fullmatch(path.name)
    return match[1] if match else path.stem


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _read(path: Path) -> NotebookNode:
    import nbformat.v4

    try:
        nb = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        _give_ids(nb)
        nb.nbformat_minor = 5
        nbformat.validate(nb, version=4)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path} is not a notebook of format 4: {reason}") from None
    return nb


def _give_ids(nb: NotebookNode) -> None:
    # nbformat would invent random ids, different in every refresh.
    seen: set[str] = set()
    for cell in nb.cells:
        for n in itertools.count():
            if cell.get("id") and cell.id not in seen:
                break
            cell.id = hashlib.sha256(f"{n}{cell.source}".encode()).hexdigest()[:8]
        seen.add(cell.id)


def _text(nb: NotebookNode) -> str:
    import nbformat.v4

    return nbformat.v4.writes(nb) + "\n"


def _write(nb: NotebookNode, path: Path) -> None:
    import nbformat

    nbformat.validate(nb)
    _replace(path, _text(nb))


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
