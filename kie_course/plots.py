"""One figure style for the whole course: colour-blind safe, readable in greyscale.

Importing this module sets the style for all figures of the process.
Every figure carries alternative text, which says what a reader would see.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from kie_course import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), from dark to light, so that greyscale keeps them apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
QUIET = "#B8B8B8"
"""Grey for what a figure compares with."""

STYLE = {
    "axes.prop_cycle": mpl.cycler(
        color=COLOURS, marker=("o", "s", "^", "D", "v", "P"), linestyle=["-", "--"] * 3
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "font.size": 11,
    "figure.dpi": 110,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
}


mpl.rcParams.update(STYLE)  # a title's place, say, is looked up when it is set


def figure(columns: int = 1, width: float = 7.0, height: float = 3.2, **kwargs):
    """A figure in the course's style: `(figure, axes)`, sizes in inches."""
    size = (width, height)
    return plt.subplots(1, columns, figsize=size, layout="constrained", **kwargs)


def show(figure: Figure, alt: str) -> None:
    """Display a figure with its alternative text, and close it.

    Args:
        figure: what to show.
        alt: one or two sentences that say what a reader would see.

    Raises:
        BadInput: the alternative text says next to nothing.
    """
    from IPython.display import display

    if len(alt.split()) < 5:
        raise BadInput(f"alternative text too short to say anything: {alt!r}")
    display(
        {"image/png": png(figure), "text/plain": alt},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )


def png(figure: Figure) -> str:
    """A figure as PNG in base64, the same bytes every time; closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def bars(
    axes: Axes,
    labels: Sequence[str],
    values: Sequence[float],
    highlight: Sequence[str] = (),
    digits: int = 3,
) -> None:
    """Horizontal bars, first on top, each with its value; those named stand out."""
    colours = [COLOURS[0] if label in highlight else QUIET for label in labels]
    places = np.arange(len(labels))
    drawn = axes.barh(places, values, color=colours, height=0.7)
    axes.bar_label(drawn, fmt=f"{{:.{digits}f}}", padding=4)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.margins(x=0.15)


def attention(
    axes: Axes, weights: np.ndarray, queries: Sequence[str], keys: Sequence[str]
) -> None:
    """Attention weights as a grid: a row for each query, a column for each key.

    Args:
        axes: where to draw.
        weights: (query, key), each row sums to 1.
        queries: words beside the rows.
        keys: words above the columns.
    """
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_xticks(
        range(len(keys)), keys, rotation=60, ha="left", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(queries)), queries)
    axes.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    axes.set(xlabel="key: read from", ylabel="query: who reads")
    axes.figure.colorbar(image, ax=axes, label="weight", shrink=0.7)


def history(axes: Axes, run, name: str) -> None:
    """Training loss (smoothed) and dev score of a run against its steps.

    Args:
        axes: where to draw the loss; the dev score gets an axis of its own.
        run: a `training.History`.
        name: what the dev score is, e.g. `"span F1"`.
    """
    steps, losses = np.array(run.loss).T
    window = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(steps[window - 1 :], smooth, color=QUIET, marker="", linestyle="-")
    axes.set(xlabel="step", ylabel="training loss (grey)", ylim=(0, None))
    other = axes.twinx()
    other.spines["right"].set_visible(True)
    other.plot(*np.array(run.dev).T, color=COLOURS[0], marker="o")
    other.set(ylabel=f"{name} on dev (blue)", ylim=(0, 1))


def reliability(axes: Axes, said: Sequence[float], held: Sequence[float]) -> None:
    """A reliability diagram: how often what was said came true; grey: if always.

    Args:
        axes: where to draw.
        said: mean confidence of each bin, rising.
        held: the share of the bin that is right.
    """
    axes.plot([0, 1], [0, 1], color=QUIET, marker="", linestyle="--")
    axes.plot(said, held, color=COLOURS[0], marker="o", linestyle="-")
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
