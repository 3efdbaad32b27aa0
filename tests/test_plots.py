"""Figures: described in words, closed, and the same bytes every time."""

import base64
from itertools import pairwise

import IPython.display
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from kie_course import BadInput, plots, training

ALT = "Bars: tuned reaches .83, untouched .41."


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """What reaches the notebook: data and metadata of every display."""
    outputs: list[dict] = []

    def display(data, raw, metadata):
        assert raw
        outputs.append({"data": data, "metadata": metadata})

    monkeypatch.setattr(IPython.display, "display", display)
    return outputs


def a_figure():
    figure, axes = plots.figure()
    plots.bars(axes, ["untouched", "tuned"], [0.41, 0.83], highlight=["tuned"])
    return figure


def test_alternative_text_stands_in_the_outputs_metadata(shown):
    plots.show(a_figure(), ALT)
    (output,) = shown
    assert output["metadata"] == {"image/png": {"alt": ALT}}
    assert output["data"]["text/plain"] == ALT
    assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("alt", ["", "   ", "a figure", "one two three four"])
def test_text_that_says_next_to_nothing_is_refused(alt, shown):
    with pytest.raises(BadInput, match="too short"):
        plots.show(a_figure(), alt)
    assert shown == []
    plt.close("all")


def test_shown_figure_is_closed(shown):
    figure = a_figure()
    assert plt.fignum_exists(figure.number)
    plots.show(figure, ALT)
    assert not plt.fignum_exists(figure.number)


def test_same_figure_gives_the_same_bytes(shown):
    for _ in range(2):
        plots.show(a_figure(), ALT)
    assert shown[0] == shown[1]
    png = base64.b64decode(shown[0]["data"]["image/png"])
    assert b"Software" not in png
    assert b"matplotlib" not in png.lower()


def test_style_does_not_leak_into_other_figures(shown):
    before = dict(plt.rcParams)
    plots.show(a_figure(), ALT)
    assert dict(plt.rcParams) == before


def test_colours_differ_in_greyscale_too():
    shades = sorted(
        0.2126 * r + 0.7152 * g + 0.0722 * b
        for r, g, b in map(to_rgb, plots.COLOURS[:3])
    )
    assert min(b - a for a, b in pairwise(shades)) > 0.03
    cycle = plots.STYLE["axes.prop_cycle"].by_key()
    assert len(set(cycle["marker"])) == len(plots.COLOURS)  # colour is never alone


def test_bars_say_their_values_and_the_first_is_on_top():
    _, axes = plots.figure()
    plots.bars(axes, ["b", "a"], [0.25, 0.5], highlight=["a"], digits=2)
    assert [text.get_text() for text in axes.texts] == ["0.25", "0.50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert axes.yaxis_inverted()
    colours = [bar.get_facecolor()[:3] for bar in axes.patches]
    assert colours == [to_rgb(plots.QUIET), to_rgb(plots.COLOURS[0])]
    plt.close("all")


def test_attention_has_a_row_for_each_query_on_one_scale():
    weights = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    _, axes = plots.figure()
    plots.attention(axes, weights, ["who", "where"], ["Ada", "met", "Bob"])
    image = axes.images[0]
    np.testing.assert_array_equal(image.get_array(), weights)
    assert image.get_clim() == (0, 1)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["who", "where"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Ada", "met", "Bob"]
    plt.close("all")


@pytest.mark.parametrize("steps", [1, 3, 100])
def test_history_shows_loss_and_dev_score(steps, shown):
    run = training.History(
        loss=[(step, 1 / step) for step in range(1, steps + 1)], dev=[(steps, 0.5)]
    )
    figure, axes = plots.figure()
    plots.history(axes, run, "span F1")
    other = figure.axes[1]
    assert "span F1" in other.get_ylabel()
    assert other.lines[0].get_xydata().tolist() == [[steps, 0.5]]
    x, y = axes.lines[0].get_xydata().T
    assert x[-1] == steps
    assert y.min() >= 1 / steps
    plots.show(figure, "The loss falls, and the dev score is one half.")
    assert len(shown) == 1
