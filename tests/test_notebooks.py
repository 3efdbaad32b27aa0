"""Every notebook runs, is fresh and readable; and the checks themselves catch faults.

All in one file: the count of executed notebooks must not be split among processes
(pytest-xdist: --dist loadfile).
"""

import inspect
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import margins
import nbformat
import notebook_style as style
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kie_course import SEED, BadInput, notebooks

FOLDER = Path(__file__).parent.parent / "notebooks"
LESSONS = notebooks.lessons()
EXECUTED: set[Path] = set()

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def number(path: Path) -> str:
    return path.name.partition("_")[0]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


# ------------------------------------------------------------- the notebooks on disk


def nbval(path: Path) -> tuple[int, str]:
    """Run a notebook's cells with the smoke profile: how many passed, and the log."""
    # Without this session's own pytest settings, and with figures.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MPL"))}
    options = (
        "--nbval-lax --nbval-current-env -q --color=no -o addopts= "
        "-p no:cacheprovider -p no:xdist --rootdir"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), path.parent, path],
        env=env | {"KIE_PROFILE": "smoke"},
        capture_output=True,
        text=True,
        check=False,
    )
    passed = re.search(r"(\d+) passed", done.stdout) if done.returncode == 0 else None
    return int(passed[1]) if passed else 0, done.stdout + done.stderr


@each_lesson
def test_every_cell_runs_in_the_smoke_profile(path: Path) -> None:
    passed, log = nbval(path)
    EXECUTED.add(path)
    assert passed == len(list(style.code_cells(read(path)))), log


def unexecuted(folder: Path, executed: set[Path]) -> set[Path]:
    """Notebooks on disk, wherever in the folder, that no test has executed."""
    on_disk = {
        path.resolve()
        for path in folder.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    }
    return on_disk - {path.resolve() for path in executed}


def test_notebooks_on_disk_are_the_notebooks_executed() -> None:
    assert unexecuted(FOLDER, EXECUTED) == set()


@each_lesson
def test_committed_metrics_beat_their_baselines(path: Path) -> None:
    assert margins.missed(number(path), notebooks.records(read(path))) == []


# Seconds that a lesson may take on two cores: what the course promises.
BUDGETS = {"00": 60, "00b": 60, "01": 120, "02": 60, "03": 90, "04": 120, "04b": 120}
BUDGETS |= {"05": 240, "06": 240, "07": 300, "08": 300}


@each_lesson
def test_committed_run_kept_its_budget(path: Path) -> None:
    kie = read(path).metadata.kie
    assert kie.budget.seconds == BUDGETS[number(path)]
    assert kie.volatile.seconds <= kie.budget.seconds
    assert kie.volatile.peak_memory_mb <= kie.budget.memory_mb


@each_lesson
def test_committed_form_is_fresh(path: Path) -> None:
    assert notebooks.stale(path) == []


def test_the_readme_shows_the_measured_times() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert f"<!-- lessons -->\n{notebooks.lesson_table()}\n<!-- /lessons -->" in readme
    assert f"<!-- figures -->\n{notebooks.figures_table()}\n<!-- /figures -->" in readme


def test_the_readme_shows_lesson_06s_own_figure() -> None:
    shown = FOLDER.parent / "docs" / "result.png"
    assert shown.read_bytes() == notebooks.picture()


@each_lesson
def test_lesson_is_readable(path: Path) -> None:
    assert style.faults(read(path), number(path)) == []


def test_profiles_hold_the_same_lessons_and_names() -> None:
    smoke, cpu, gpu = (notebooks._profile(name) for name in ("smoke", "cpu", "gpu"))
    names = {lesson: list(values) for lesson, values in cpu.items()}
    assert {lesson: list(values) for lesson, values in smoke.items()} == names
    assert {lesson: list(values) for lesson, values in gpu.items()} == names


# --------------------------------------------------------------- a course of our own

PARAMETERS = """\
import os

profile = os.environ.get("KIE_PROFILE", "cpu")
epochs: int | None = None"""

VALUES = """\
from kie_course.notebooks import record, settings

values = settings("06", profile, epochs=epochs)
values.epochs"""

FIGURE = """\
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

figure, axes = plt.subplots(figsize=(2, 1))
axes.plot(np.random.default_rng(0).normal(size=9))
plt.close(figure)
display(figure, metadata={"image/png": {"alt": "nine random values"}})"""

CHUNKS = """\
import sys
import time

for step in range(3):
    print("step", step, flush=True)
    print("a bar", file=sys.stderr, flush=True)
    time.sleep(0.3)"""

WIDGET = """\
from kie_course.notebooks import WIDGET

display({"text/plain": "bar", WIDGET: {"model_id": "0"}}, raw=True)"""

RECORDS = """\
record("before/f1", 0.25)
record("after/f1", 0.75)
record("epochs", values.epochs)"""

IN_PACKAGE = inspect.getsource(notebooks._tags)

DETAILS = "<details><summary>A</summary>yes</details>\n"


def code(source: str, *tags: str) -> nbformat.NotebookNode:
    return new_code_cell(source, metadata={"tags": list(tags)})


def prose(source: str, *tags: str) -> nbformat.NotebookNode:
    return new_markdown_cell(source, metadata={"tags": list(tags)})


def good_lesson() -> nbformat.NotebookNode:
    """A lesson without a fault, of every kind of cell and output."""
    cells = [
        prose("# Small\n\nWhat you will be able to do."),
        prose("What? Why? When?", "recall"),
        code(PARAMETERS, "parameters"),
        code(VALUES),
        prose("Will it rise?", "predict"),
        code(FIGURE),
        prose("Will it print?", "predict"),
        code(CHUNKS),
        code("import warnings  # no warning", "volatile"),
        prose("Will it record?", "predict"),
        code(WIDGET),
        code(RECORDS),
        code("NotebookNode = dict"),
        code(IN_PACKAGE, "in-package"),
        prose("What it was.", "summary"),
        prose(3 * DETAILS, "quiz"),
        prose("Somebody (2017).", "reading"),
    ]
    nb = new_notebook(cells=cells)
    nb.metadata.kie = {"budget": {"seconds": 60, "memory_mb": 1000}}
    return nb


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the executor takes for the course's, until this file is done."""
    # The tests over the notebooks on disk stand above, and so run before.
    folder = tmp_path_factory.mktemp("course")
    (folder / "notebooks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kie_course.data.home", lambda: folder)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def refreshed(home: Path) -> tuple[Path, str]:
    """A good lesson in its committed form, and its text after a first refresh."""
    path = home / "notebooks" / "06_small.ipynb"
    nbformat.write(good_lesson(), path)
    notebooks.refresh(["06"], progress=False)
    first = path.read_text(encoding="utf-8")
    notebooks.refresh(["06"], progress=False)
    return path, first


@pytest.fixture
def lesson(home: Path) -> Iterator[Callable[..., Path]]:
    """Write a lesson 42 of the given cells."""
    path = home / "notebooks" / "42_small.ipynb"

    def write(*cells: nbformat.NotebookNode) -> Path:
        nbformat.write(new_notebook(cells=[prose("# Small"), *cells]), path)
        return path

    yield write
    path.unlink(missing_ok=True)


# -------------------------------------------------------------------------- refresh


def without_volatile(text: str) -> str:
    nb = json.loads(text)
    del nb["metadata"]["kie"]["volatile"]
    return json.dumps(nb)


def test_two_refreshes_differ_in_nothing_but_the_volatile(refreshed) -> None:
    path, first = refreshed
    assert without_volatile(path.read_text("utf-8")) == without_volatile(first)


def test_refreshed_lesson_is_fresh_and_without_fault(refreshed) -> None:
    path, _ = refreshed
    assert notebooks.stale(path) == []
    assert style.faults(read(path), "06") == []
    assert read(path).metadata.kie.budget == {"seconds": 60, "memory_mb": 1000}


def test_committed_form_holds_what_readers_see_and_nothing_else(refreshed) -> None:
    nb = read(refreshed[0])
    _, chunks = next(c for c in style.code_cells(nb) if c[1].source == CHUNKS)
    _, widget = next(c for c in style.code_cells(nb) if c[1].source == WIDGET)
    assert [output.text for output in chunks.outputs] == ["step 0\nstep 1\nstep 2\n"]
    assert widget.outputs == []
    assert set(nb.metadata) == {"kernelspec", "language_info", "kie"}
    assert all(set(cell.metadata) <= {"tags"} for cell in nb.cells)


def test_records_are_read_back_and_invisible(refreshed) -> None:
    nb = read(refreshed[0])
    expected = {"before/f1": 0.25, "after/f1": 0.75, "epochs": 3}
    _, cell = next(c for c in style.code_cells(nb) if c[1].source == RECORDS)
    assert notebooks.records(nb) == expected
    assert {mime for output in cell.outputs for mime in output.data} == {
        notebooks.RECORD
    }


def test_nbval_runs_every_cell_and_sees_a_broken_one(refreshed, tmp_path: Path) -> None:
    path, _ = refreshed
    nb = read(path)
    passed, log = nbval(path)
    assert passed == 9, log
    nb.cells[-4].source = "1 / 0"
    broken = tmp_path / "06_broken.ipynb"
    nbformat.write(nb, broken)
    passed, log = nbval(broken)
    assert passed == 0
    assert "ZeroDivisionError" in log


def test_a_notebook_left_out_is_found(home: Path, refreshed) -> None:
    (home / "notebooks" / "more").mkdir(exist_ok=True)
    other = home / "notebooks" / "more" / "untitled.ipynb"
    other.write_text("{}")
    assert unexecuted(home / "notebooks", {refreshed[0]}) == {other.resolve()}


# ------------------------------------------------------------- planted faults: stale


def edit_source(nb: dict) -> None:
    nb["cells"][3]["source"] = ["values = 1"]


def edit_tags(nb: dict) -> None:
    nb["cells"][3]["metadata"]["tags"] = ["in-package"]


def skip_a_count(nb: dict) -> None:
    nb["cells"][2]["execution_count"] = 7


def add_widget_state(nb: dict) -> None:
    nb["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}


def add_widget(nb: dict) -> None:
    data = {notebooks.WIDGET: {"model_id": "0"}}
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    nb["cells"][2]["outputs"] = [output]


def add_stderr(nb: dict) -> None:
    output = {"output_type": "stream", "name": "stderr", "text": ["bar"]}
    nb["cells"][2]["outputs"] = [output]


def add_error(nb: dict) -> None:
    output = {"output_type": "error", "ename": "E", "evalue": "e", "traceback": []}
    nb["cells"][2]["outputs"] = [output]


def forget_the_hash(nb: dict) -> None:
    del nb["metadata"]["kie"]


def add_timing(nb: dict) -> None:
    nb["cells"][2]["metadata"]["execution"] = {"iopub.execute_input": "now"}


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (edit_source, "code or the lesson's cpu profile changed after the refresh"),
        (edit_tags, "code or the lesson's cpu profile changed after the refresh"),
        (skip_a_count, "the execution counts are not 1 to 9"),
        (add_widget_state, "the metadata holds widget state"),
        (add_widget, "cell 3 holds a widget"),
        (add_stderr, "cell 3 holds standard-error output"),
        (add_error, "cell 3 holds an error"),
        (forget_the_hash, "metadata.kie.sources is missing"),
        (add_timing, "the file is not in the form that refresh writes"),
    ],
)
def test_a_stale_copy_is_caught(refreshed, tmp_path: Path, plant, reason) -> None:
    path, first = refreshed
    copy = tmp_path / path.name
    nb = json.loads(first)
    plant(nb)
    copy.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    (found,) = notebooks.stale(copy)
    assert found.startswith(reason)


def test_other_prose_does_not(refreshed, tmp_path: Path) -> None:
    """No output depends on it: a comma costs nobody five minutes of training."""
    copy = tmp_path / refreshed[0].name
    nb = nbformat.reads(refreshed[1], as_version=4)
    text = next(cell for cell in nb.cells if cell.cell_type == "markdown")
    text.source += "\n\nOne more sentence."
    copy.write_text(notebooks._text(nb))
    assert notebooks.stale(copy) == []


def test_another_cpu_profile_makes_a_notebook_stale(
    refreshed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "profiles.toml"
    changed.write_text('[cpu."06"]\nepochs = 99\n')
    monkeypatch.setattr(notebooks, "PROFILES", changed)
    (found,) = notebooks.stale(refreshed[0])
    assert "cpu profile changed" in found


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"nbformat": 3, "cells": []}'])
def test_a_file_that_is_no_notebook_is_not_fresh(tmp_path: Path, text: str) -> None:
    file = tmp_path / "06_broken.ipynb"
    file.write_text(text)
    (found,) = notebooks.stale(file)
    assert found.startswith(f"{file} is not a notebook")


# ---------------------------------------------------------- planted faults: readable


def replace(tag: str, *cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A good lesson in which other cells stand for those with a tag."""
    nb = good_lesson()
    (old,) = style.tagged(nb, tag)
    at = nb.cells.index(old)
    nb.cells[at : at + 1] = cells
    return nb


IMAGE = {"image/png": "aGk=", "text/plain": "<Figure>"}
UNNAMED_IMAGE = nbformat.v4.new_output("display_data", IMAGE)

READABILITY_FAULTS = {
    "is not the title": replace("summary", prose("# Late", "summary")),
    "tagged parameters": replace("parameters", code("profile = 'cpu'", "parameters")),
    "ask fewer than 3 questions": replace("recall", prose("What?", "recall")),
    "fewer than 3 answers": replace("quiz", prose(DETAILS, "quiz")),
    "does not end with": replace("reading", prose("Nothing.")),
    "is empty": replace("volatile", code(" \n")),
    "more than 88 characters": replace("volatile", code("#" * 89)),
    "the longest code cell": replace("volatile", code("1\n" * 31)),
    "a tenth of the code cells": replace("volatile", code("1\n" * 14)),
    "waits for input()": replace("volatile", code("name = input('Who? ')")),
    "of the cells are code": replace("volatile", *(code("1") for _ in range(4))),
    "without alt text": replace("volatile", code("1")),
    "otherwise than the package": replace(
        "in-package", code(IN_PACKAGE.replace("set(", "list("), "in-package")
    ),
    "does more than define": replace(
        "in-package", code(IN_PACKAGE + "\nextra = 1", "in-package")
    ),
}
READABILITY_FAULTS["is not the title"].cells.pop(0)
READABILITY_FAULTS["without alt text"].cells[8].outputs = [UNNAMED_IMAGE]


@pytest.mark.parametrize("fault", READABILITY_FAULTS)
def test_an_unreadable_lesson_is_caught(fault: str) -> None:
    assert [f for f in style.faults(READABILITY_FAULTS[fault], "06") if fault in f]


def test_a_missing_prediction_and_long_cells_are_caught() -> None:
    nb = good_lesson()
    nb.cells.remove(style.tagged(nb, "predict")[0])
    for _, cell in style.code_cells(nb):
        cell.source += "\n1" * 5
    found = style.faults(nb, "06")
    assert "there are fewer than 3 cells tagged predict" in found
    assert any(fault.startswith("the median code cell has") for fault in found)


def test_a_docstring_may_differ_from_the_packages() -> None:
    documented = IN_PACKAGE.replace(":\n", ':\n    """Give a cell\'s tags."""\n', 1)
    nb = replace("in-package", code(documented, "in-package"))
    assert style.faults(nb, "06") == []


def test_the_first_lesson_recalls_nothing() -> None:
    nb = replace("recall", prose("Welcome."))
    assert style.faults(nb, "00") == []


# -------------------------------------------------------- planted faults: execution


def test_a_failing_cell_is_named_and_what_ran_is_kept(home: Path, lesson) -> None:
    path = lesson(
        code("print('before')"), code("\nx = 1 / 0\n"), code("print('after')")
    )
    before = path.read_bytes()
    with pytest.raises(notebooks.LessonFailed) as failure:
        notebooks.refresh(["42"], progress=False)
    message = "lesson 42, cell 3 (x = 1 / 0): ZeroDivisionError: division by zero"
    assert str(failure.value) == message
    assert path.read_bytes() == before
    partial = (home / "build" / "42_small.cpu.ipynb").read_text(encoding="utf-8")
    assert "before\\n" in partial
    assert "after\\n" not in partial
    assert list(path.parent.glob(".*")) == []


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import warnings\n\nwarnings.warn('old')", "UserWarning: old"),
        ("object()", "shows a memory address"),
        ("raise SystemExit", "SystemExit"),
        ("import os\n\nos._exit(3)", "the kernel died"),
    ],
)
def test_an_unclean_cell_fails_the_refresh(lesson, source: str, error: str) -> None:
    before = lesson(code("1"), code(source)).read_bytes()
    with pytest.raises(notebooks.LessonFailed, match=f"^lesson 42, cell 3.*{error}"):
        notebooks.refresh(["42"], progress=False)
    assert lesson(code("1"), code(source)).stat().st_size == len(before)


def test_an_allowed_warning_passes(lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "ALLOWED_WARNINGS", ("known and harmless",))
    path = lesson(code("import warnings\n\nwarnings.warn('known and harmless')"))
    notebooks.refresh(["42"], progress=False)
    assert notebooks.stale(path) == []


def test_a_draft_gets_ids_that_do_not_depend_on_chance(lesson) -> None:
    path = lesson(code("1"), code("1"))
    draft = json.loads(path.read_text())
    for cell in draft["cells"]:
        del cell["id"]
    path.write_text(json.dumps(draft | {"nbformat_minor": 4}))
    first, second = notebooks._read(path), notebooks._read(path)
    ids = [cell.id for cell in first.cells]
    assert ids == [cell.id for cell in second.cells]
    assert len(set(ids)) == 3


# -------------------------------------------------------------------------- running


def test_run_writes_results_and_prints_before_and_after(
    home: Path, refreshed, capfd: pytest.CaptureFixture
) -> None:
    (result,) = notebooks.run(["06"], "smoke", progress=True)
    stored = json.loads((home / "build" / "results" / "06.smoke.json").read_text())
    assert stored == result
    assert result["metrics"] == {"before/f1": 0.25, "after/f1": 0.75, "epochs": 1}
    assert result["seed"] == SEED
    assert result["seconds"] > 0
    assert result["peak_memory_mb"] > 10
    printed = capfd.readouterr()
    row = ["06", "f1", "0.250", "0.750", "+0.500"]
    assert printed.out.splitlines()[-1].split() == row
    assert "06_small: 100%" in printed.err
    assert "WARNING" not in printed.err


def test_the_kernel_is_this_python_whatever_kernels_are_installed(
    lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    other = {"argv": ["/bin/false"], "display_name": "Other", "language": "python"}
    spec.write_text(json.dumps(other))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    path = lesson(code("import os, sys\n\nprint(sys.executable, os.getcwd())"))
    nb = notebooks.execute(path, "smoke", progress=False)
    assert nb.cells[1].outputs[0].text == f"{sys.executable} {path.parent}\n"


def test_parameters_reach_the_lesson(home: Path, lesson) -> None:
    path = lesson(code(PARAMETERS, "parameters"), code("print(profile, epochs)"))
    nb = notebooks.execute(path, "gpu", {"epochs": 5}, progress=False)
    assert nb.cells[-1].outputs[0].text == "gpu 5\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: notebooks.execute(p, "cpu", {"epoch": 5}), "no parameter 'epoch'"),
        (lambda p: notebooks.execute(p, "tpu"), "profile 'tpu' is unknown: use smoke"),
        (lambda p: notebooks.run(["42"], "tpu"), "profile 'tpu' is unknown"),
        (lambda p: notebooks.run(["99"], "cpu"), "no lesson '99' .* there is .*42"),
        (lambda p: notebooks.execute(p.with_name("x"), "cpu"), "No such file"),
        (lambda p: notebooks.settings("06", "tpu"), "profile 'tpu' is unknown"),
        (lambda p: notebooks.settings("06", epoch=5), "lesson 06 .* 'epoch'"),
        (lambda p: notebooks.settings("xx"), "lesson 'xx' has no values"),
        (lambda p: notebooks.record("f1", float("nan")), "record 'f1' needs a plain"),
        (lambda p: notebooks.record("f1", np.float32(1)), "record 'f1' needs a plain"),
        (lambda p: notebooks.record("before/f1", "low"), "needs a number, not 'low'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(lesson, call, message: str) -> None:
    path = lesson(code(PARAMETERS, "parameters"))
    with pytest.raises(BadInput, match=message) as refusal:
        call(path)
    assert "\n" not in str(refusal.value)


def test_a_metric_recorded_twice_is_refused() -> None:
    output = nbformat.v4.new_output(
        "display_data", {notebooks.RECORD: {"name": "f1", "value": 1}}
    )
    nb = new_notebook(cells=[new_code_cell("", outputs=[output, output])])
    with pytest.raises(BadInput, match="'f1' is recorded twice"):
        notebooks.records(nb)


def test_settings_take_the_profile_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KIE_PROFILE", "smoke")
    assert vars(notebooks.settings("06")) == notebooks._profile("smoke")["06"]
    monkeypatch.delenv("KIE_PROFILE")
    assert vars(notebooks.settings("06")) == notebooks._profile("cpu")["06"]
    assert notebooks.settings("06", "cpu", epochs=None).epochs == 3
    assert notebooks.settings("06", "cpu", epochs=0).epochs == 0


# -------------------------------------------------------------------------- network

CONNECT = """\
import socket

try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(error)"""
BLOCKED = "network blocked during tests: 192.0.2.1\n"


def test_network_is_blocked_here() -> None:
    with pytest.raises(OSError, match=r"network blocked during tests: 192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match=r"network blocked during tests: example\.org"):
        socket.getaddrinfo("example.org", 80)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        pytest.raises(OSError, match=r"network blocked during tests: 192\.0\.2\.1"),
    ):
        datagrams.sendto(b"hello", ("192.0.2.1", 53))


def test_this_machine_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
        with socket.create_connection(("localhost", server.getsockname()[1]), 5):
            pass


def test_network_is_blocked_in_a_subprocess() -> None:
    command = [sys.executable, "-c", CONNECT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == BLOCKED


def test_network_is_blocked_in_a_kernel(lesson) -> None:
    nb = notebooks.execute(lesson(code(CONNECT)), "smoke", progress=False)
    assert nb.cells[1].outputs[0].text == BLOCKED
