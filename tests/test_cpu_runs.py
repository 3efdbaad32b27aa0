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
def test_a_loss_and_nan_miss_every_margin(lesson: str) -> None:
    for metric, base, _ in MARGINS[lesson]:
        for value in (0.4, float("nan")):
            metrics = {name: 0.5 for row in MARGINS[lesson] for name in row[:2]}
            metrics |= {base: 0.5, metric: value}
            assert any(line.startswith(metric) for line in missed(lesson, metrics))
