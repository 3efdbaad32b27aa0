"""Run a learner's function in a process of its own, within limits.

What is defended, and what is not, stands in `docs/grading.md`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kie_course.exercises import Exercise, child
from kie_course.exercises.diagnosis import Outcome, reference

KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Limits:
    """What one exercise of one learner may use."""

    cpu: int = 10
    """Seconds of computing; importing torch alone takes some."""
    wall: int = 40
    """Seconds by the clock, for code that waits."""
    memory: int = 4 * 2**30
    """Bytes of address space (not enforced on macOS and Windows)."""


LIMITS = Limits()


@dataclass(frozen=True)
class Run:
    """What came of a function: an outcome an input, as far as it got."""

    outcomes: list[Outcome]
    source: str = ""
    ended: str = ""
    """Why the outcomes stop early."""


def run_apart(
    cells: Sequence[str],
    exercise: Exercise,
    seed: int,
    limits: Limits,
    hidden: Sequence[Path] = (),
) -> Run:
    """Find an exercise's function in a notebook's code and run it on the inputs.

    Files under `hidden` are out of its reach, as are this package's own.
    """
    folders = [Path(__file__).parent, Path(f"/proc/{os.getpid()}"), *hidden]
    job = {
        "cells": list(cells),
        "function": exercise.function,
        "cases": reference(exercise, seed).cases,
        "path": [os.path.abspath(path) for path in sys.path if path],
        "hidden": [os.path.realpath(folder) for folder in folders],
        "package": "kie_course.exercises",
        "cpu": limits.cpu,
        "memory": limits.memory,
    }
    with (
        tempfile.TemporaryFile("w+", encoding="ascii") as task,
        tempfile.TemporaryFile("w+", encoding="ascii", errors="replace") as result,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        json.dump(job, task)
        task.seek(0)
        status = _wait(_start(folder, task, result), limits.wall)
        result.seek(0)
        return _read(result, status, len(job["cases"]), limits)


def _start(folder: str, task: IO, result: IO) -> subprocess.Popen:
    environment = {k: os.environ[k] for k in KEPT_ENVIRONMENT if k in os.environ}
    environment |= dict.fromkeys(("HOME", "TMPDIR", "TEMP", "MPLCONFIGDIR"), folder)
    # One thread each: all cores are busy with other learners.
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment |= dict.fromkeys(threads, "1")
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}
    return subprocess.Popen(
        # As -I, which would not hear that strings are to hash alike in every run.
        [sys.executable, "-s", "-P", "-X", "utf8", child.__file__],
        stdin=task,
        stdout=result,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    """Wait for a process, then end all that it started; None: it took too long."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


def _read(result: IO, status: int | None, expected: int, limits: Limits) -> Run:
    lines: list[dict] = []
    with contextlib.suppress(ValueError, RecursionError):  # cut, or tampered with
        for line in result:
            value = json.loads(line)
            if isinstance(value, dict):
                lines.append(value)
    head, outcomes = (lines[0], lines[1:]) if lines else ({}, [])
    if "missing" in head:
        return Run([], ended=str(head["missing"]))
    ended = ""
    if len(outcomes) != expected:
        ended = _why(status, limits)
    return Run(outcomes[:expected], str(head.get("source", "")), ended)


def _why(status: int | None, limits: Limits) -> str:
    if status is None:
        return f"it did not end within {limits.wall} s"
    if status == -getattr(signal, "SIGXCPU", 0):
        return f"it did not end within {limits.cpu} s of computing"
    if status == -getattr(signal, "SIGKILL", 0):
        return "it was stopped: too much time or memory"
    if status < 0:
        return f"it crashed ({signal.Signals(-status).name})"
    return "it ended the whole program"
