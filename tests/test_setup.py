"""What is declared, what is locked, what is installed: and that they agree."""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted((ROOT / "kie_course").rglob("*.py"))

DIRECT = [
    Requirement(line)
    for line in (
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["test"],
        *PROJECT["build-system"]["requires"],
    )
]


@pytest.fixture(scope="module")
def lock() -> dict[str, Version]:
    """Canonical name to version, from lines of the form `name==version`."""
    versions: dict[str, Version] = {}
    text = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, version = line.partition("==")
        assert re.fullmatch(r"[\w.-]+", name), f"not name==version: {line}"
        assert canonicalize_name(name) not in versions, f"twice in the lock: {name}"
        versions[canonicalize_name(name)] = Version(version)
    return versions


# ------------------------------------------------------------ declared against locked


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_declared_range_admits_exactly_what_is_locked(requirement, lock):
    name = canonicalize_name(requirement.name)
    assert name in lock, f"{name} is declared but not locked"
    assert requirement.specifier.contains(lock[name])
    assert requirement.specifier, f"{name} has no range"


def test_torch_is_locked_without_a_local_label(lock):
    assert str(lock["torch"]) == "2.13.0"
    assert [str(v) for v in lock.values() if v.local] == []


def test_lock_does_not_hold_the_course_itself(lock):
    assert "kie-course" not in lock


def dependencies_of(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed distribution needs on this machine."""
    try:
        needed = [Requirement(line) for line in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:
        return []
    return [
        requirement
        for requirement in needed
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]


def test_lock_holds_all_that_its_packages_need(lock):
    todo, seen = [(r.name, frozenset(r.extras)) for r in DIRECT], set()
    missing, refused = set(), set()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        for requirement in dependencies_of(item[0], set(item[1])):
            name = canonicalize_name(requirement.name)
            if re.match(r"nvidia-|cuda-|triton", name):
                continue  # torch's own, and only where it is built for a GPU
            if name not in lock:
                missing.add(f"{name}, which {item[0]} needs")
            elif not requirement.specifier.contains(lock[name], prereleases=True):
                refused.add(f"{name} {lock[name]}: {item[0]} needs {requirement}")
            todo.append((name, frozenset(requirement.extras)))
    assert len(seen) > 100, "the walk ended early"
    assert (missing, refused) == (set(), set())


# ------------------------------------------------------------------ environment.yml


def test_conda_environment_is_python_and_pip_and_the_rest_through_pip():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    dependencies = yaml.safe_load(text)["dependencies"]
    conda = [line for line in dependencies if isinstance(line, str)]
    (python,) = [line for line in conda if re.match(r"python\b", line)]
    assert [re.match(r"\w+", line)[0] for line in conda] == ["python", "pip"]

    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    version = re.search(r"\d+\.\d+", python)[0]
    assert supported.contains(version)
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + version.replace(".", "")

    (through_pip,) = [line["pip"] for line in dependencies if isinstance(line, dict)]
    for line in through_pip:
        option, _, argument = line.partition(" ")
        target = argument.partition("[")[0]
        assert option in ("-e", "-r"), f"a version of its own: {line}"
        assert (ROOT / target).exists(), line
    assert any(line.startswith("-e .") for line in through_pip)


def test_this_python_is_a_supported_one():
    here = ".".join(map(str, sys.version_info[:3]))
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(here)


# ----------------------------------------------------------------- inside the package

ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'`(=:])(?:/(?!proc/)[A-Za-z]\w*/|[A-Z]:\\|~/\w)")
HOST = re.compile(r"\bhttps?://([\w.-]+)")
PUBLIC = {
    "colab.research.google.com",
    "mybinder.org",
    "github.com",
    "doi.org",
    "arxiv.org",
}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_names_a_path_or_host_of_somebodys_machine(path):
    texts = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [text for text in texts if ABSOLUTE_PATH.search(text)] == []
    hosts = {host for text in texts for host in HOST.findall(text)}
    assert hosts <= PUBLIC


def test_such_a_path_would_be_noticed():
    for text in ("/home/me/x", "see /opt/x/y", "C:\\data", "~/data", "='/srv/y'"):
        assert ABSOLUTE_PATH.search(text), text
    for text in ("and/or", "B-/I-", "a / b", "`/`", "qrels/train.tsv"):
        assert not ABSOLUTE_PATH.search(text), text


@pytest.mark.parametrize(
    "module",
    ["kie_course", "kie_course.data", "kie_course.notebooks", "kie_course.models"],
)
def test_import_is_light(module):
    """No torch, no Transformers: the command line answers at once."""
    script = f"import sys, {module}; print(*sys.modules)"
    loaded = run([sys.executable, "-c", script]).split()
    assert module in loaded
    assert not {"torch", "transformers", "sklearn", "matplotlib"} & set(loaded)


LAYERS = (
    "layout",
    *("data", "models", "model_card", "attention", "bert", "training", "plots"),
    "notebooks",
    *("ner", "ner_report"),
    *("ranking", "encoder", "index", "retrieval"),
    *("heads", "relations", "answers", "summaries", "generation"),
    *("rerank", "systems", "retrieval_report"),
    *("speed", "bench"),
)


@pytest.mark.parametrize("layer", LAYERS)
def test_modules_import_downwards_only(layer):
    """`data` knows nothing of the recipes, a recipe nothing of the command line."""
    path = ROOT / "kie_course" / f"{layer}.py"
    if not path.exists():
        pytest.skip("not written yet")
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    used = set()
    for node in (node for node in tree if isinstance(node, ast.ImportFrom)):
        if node.module == "kie_course":
            names = {alias.name for alias in node.names}
            used |= {name for name in names if name.islower() and name[0] != "_"}
        elif node.module.startswith("kie_course."):
            used.add(node.module.split(".")[1])
    assert used <= set(LAYERS[: LAYERS.index(layer)])


# --------------------------------------------------------------------------- the wheel


def run(command: list, **kwargs) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    run([*build, "--outdir", folder, ROOT])
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory) -> Path:
    """A second environment: the course from its wheel, the dependencies from here."""
    folder = tmp_path_factory.mktemp("second") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", folder])
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run([*pip, "--no-index", "--no-deps", "--no-compile", wheel])
    # A folder that a .pth file names is searched after the environment's own, and the
    # .pth files in it (of an editable install, say) are not read.
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run([python, "-c", script]).strip())
    here = sysconfig.get_path("purelib")
    (packages / "dependencies.pth").write_text(here + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def in_an_empty_folder(tmp_path) -> dict:
    """Where the second environment runs; the project is not on its path."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [path for path in paths if Path(path).resolve() != ROOT]
    return {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": os.pathsep.join(paths)}}


def test_wheel_carries_package_corpus_and_lessons_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    carried = [p for f in ("data", "notebooks") for p in (ROOT / f).rglob("*")]
    carried = [p.relative_to(ROOT) for p in carried if p.is_file()]
    carried = [p for p in carried if not any(part[0] == "." for part in p.parts)]
    assert {f"kie_course/share/{path}" for path in carried} <= names
    wanted_modules = {str(path.relative_to(ROOT)) for path in MODULES}
    assert wanted_modules <= names
    strange = {
        n for n in names if not n.startswith("kie_course/") or "__pycache__" in n
    }
    assert strange == set()


def test_wheel_declares_what_the_project_does(elsewhere, in_an_empty_folder):
    script = (
        "import json; from importlib.metadata import distribution as d; "
        "c = d('kie-course'); print(json.dumps([c.version, c.requires]))"
    )
    output = run([elsewhere / "bin/python", "-c", script], **in_an_empty_folder)
    version, requires = json.loads(output)
    assert version == metadata.version("kie-course")
    declared = {str(Requirement(line)) for line in PROJECT["project"]["dependencies"]}
    assert declared <= {str(Requirement(line)) for line in requires}


def test_installed_wheel_finds_its_corpus_and_lessons(elsewhere, in_an_empty_folder):
    script = """
import json, kie_course
from kie_course import data, notebooks
print(json.dumps({
    "package": kie_course.__file__,
    "home": str(data.home()),
    "documents": len(data.load_documents()),
    "questions": len(data.load_retrieval().queries),
    "lessons": [path.name for path in notebooks.lessons()],
}))
"""
    output = run([elsewhere / "bin/python", "-c", script], **in_an_empty_folder)
    found = json.loads(output)
    assert Path(found["package"]).is_relative_to(elsewhere)
    assert Path(found["home"]).is_relative_to(elsewhere)

    from kie_course import data, notebooks

    assert found["documents"] == len(data.load_documents()) > 0
    assert found["questions"] == len(data.load_retrieval().queries) > 0
    assert found["lessons"] == [path.name for path in notebooks.lessons()]


def test_installed_command_works_outside_the_project(elsewhere, in_an_empty_folder):
    command = elsewhere / "bin" / "kie-course"
    assert run([command, "data", "stats"], **in_an_empty_folder).strip()
    assert run([command, "data", "validate"], **in_an_empty_folder).strip()
    assert list(in_an_empty_folder["cwd"].iterdir()) == []


def test_shipped_encoder_is_found_from_the_second_environment(
    elsewhere, in_an_empty_folder
):
    script = "from kie_course import models; print(models.resolve())"
    output = run([elsewhere / "bin/python", "-c", script], **in_an_empty_folder)
    assert (Path(output.strip()) / "model.safetensors").is_file()
