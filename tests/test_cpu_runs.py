"""The headline lessons in the profile of their committed outputs: what they promise.

A file of its own, so that pytest-xdist can run it beside the other notebooks.
"""

from pathlib import Path

import pytest
from margins import MARGINS, missed

from kie_course import notebooks


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ["06", "07"])
def test_cpu_run_beats_its_baselines(lesson: str, tmp_path: Path) -> None:
    (result,) = notebooks.run([lesson], "cpu", out=tmp_path, progress=False)
    assert missed(lesson, result["metrics"]) == []


@pytest.mark.parametrize("lesson", MARGINS)
def test_equal_and_nan_metrics_miss_every_margin(lesson: str) -> None:
    for value in (0.5, float("nan")):
        metrics = {name: value for row in MARGINS[lesson] for name in row[:2]}
        assert len(missed(lesson, metrics)) == len(MARGINS[lesson])
