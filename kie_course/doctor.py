"""What the course needs to run here, checked one by one; each fault with its remedy."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from kie_course import BadInput, data, models

GIB = 2**30
NEEDED_GIB = 2
"""Free memory and free disk without which the lessons do not run."""


def examine() -> bool:
    """Print a line for each thing that the course needs; tell whether all are there."""
    well = True
    for check in (python, *packages(), encoder, device, memory, disk, lessons):
        try:
            print("ok      ", check())
        except Exception as error:  # whatever is broken is what is looked for
            print("PROBLEM ", " ".join(str(error).splitlines()))
            well = False
    return well


# Each check gives a line, or raises what is wrong and what to do.


def python() -> str:
    """The Python that runs this."""
    return f"Python {sys.version.split()[0]} at {sys.executable}"


def packages() -> list[Callable[[], str]]:
    """A check for each package that this one requires."""
    try:
        lines = metadata.requires("kie-course") or []
    except metadata.PackageNotFoundError:
        lines = ["kie-course"]
    return [functools.partial(package, line) for line in lines if ";" not in line]


def package(line: str) -> str:
    """An installed package, in a version that the requirement allows."""
    from packaging.requirements import Requirement

    wanted, there = Requirement(line), ""
    with contextlib.suppress(metadata.PackageNotFoundError):
        there = metadata.version(wanted.name)
    if not there or not wanted.specifier.contains(there, prereleases=True):
        fault = f"{there} does not fit" if there else "is missing"
        raise BadInput(f"{wanted.name} {fault}: pip install '{wanted}'")
    return f"{wanted.name} {there}"


def encoder() -> str:
    """The shipped encoder, byte for byte as published."""
    models.shipped_folder()
    digest = models.SHIPPED_SHA256[:12]
    return f"encoder {models.SHIPPED}, SHA-256 {digest}… as published"


def device() -> str:
    """What computes, and in which precision."""
    chosen = models.device()
    precision = "bfloat16" if models.has_bf16(chosen) else "32 bits"
    return f"device {chosen.type}, computing in {precision}"


def memory() -> str:
    """Free memory."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux: all there is, free or not
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _enough("memory", free, "close other programs")


def disk() -> str:
    """Free disk where results are written."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    return _enough("disk", free, f"make room on the disk of {here}")


def _enough(what: str, free: int, remedy: str) -> str:
    if free < NEEDED_GIB * GIB:
        raise BadInput(
            f"{what}: {free / GIB:.1f} GiB free, {NEEDED_GIB} needed: {remedy}"
        )
    return f"{what} {free / GIB:.1f} GiB free"


def lessons() -> str:
    """The lessons' notebooks."""
    from kie_course import notebooks

    found = notebooks.lessons()
    if not found:
        raise BadInput(f"no lesson in {data.home()}: install the package again")
    return f"{len(found)} lessons in {found[0].parent}"
