"""The `steps` study, which shows each matrix that attention computes."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from attnbench.report.matplotlib_figures import STYLE
from attnbench.study.study import Row, Rows, Settings, Study, compute, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

WEIGHTS = ("weights", "heads")  # steps whose values are from 0 to 1; all other values can be negative
MAX_COLUMNS = 4  # maximum number of matrices side by side in the figure
DARK = 0.6  # white text is easier to read than black text where the distance from the palest colour is above this share


class Scale(NamedTuple):
    """A colour scale: the name of its colours, and the values of its first and last colour."""

    colours: str
    low: float
    high: float


def collect(settings: Settings, folder: Path) -> Rows:  # noqa: ARG001 - every study's `collect` takes a folder
    """Compute the matrix of each step for one sentence."""
    return compute("steps", settings.sizes)


def draw(rows: Rows, only: Container[str] | None = None) -> Figure:
    """Draw the matrices of all steps, or of the steps in `only`, as heat maps with numbers.

    All weights have one colour scale, and all other matrices have another, so that equal colours are equal values.
    """
    chosen = [row for row in rows if only is None or row["step"] in only]
    across = min(MAX_COLUMNS, len(chosen))
    down = -(-len(chosen) // across)
    largest = max(abs(value) for row in rows if row["step"] not in WEIGHTS for line in row["matrix"] for value in line)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2.7 * across + 1.2, 2.5 * down), layout="constrained")
        places = list(figure.subplots(down, across, squeeze=False).flat)
        images = {}
        for axes, row in zip(places, chosen, strict=False):
            is_weight = row["step"] in WEIGHTS
            scale = Scale("Blues", 0.0, 1.0) if is_weight else Scale("RdBu_r", -largest, largest)
            images["attention weight" if is_weight else "value of any other matrix"] = _matrix(axes, row, scale)
        for axes in places[len(chosen) :]:
            axes.axis("off")
        for label, image in images.items():
            figure.colorbar(image, ax=places, label=label, shrink=0.6, aspect=30)
    return figure


def conclude(rows: Rows) -> str:
    """Return a paragraph on the sizes of the matrices and the position of the largest weight."""
    by_step = {row["step"]: row for row in rows}
    words, weights = by_step["weights"]["words"], by_step["weights"]["matrix"]
    width, head_dim = len(by_step["embeddings"]["matrix"][0]), len(by_step["query"]["matrix"][0])
    largest, query, key = max((value, i, j) for i, row in enumerate(weights) for j, value in enumerate(row))
    return (
        f"Each of the {len(words)} words becomes a row of {width} numbers, and each row becomes a query, a key and a "
        f"value of {head_dim} numbers. The {len(words) ** 2} scores are divided by the square root of {head_dim} and "
        f"become weights, which sum to 1 in each row. The largest weight, {number(largest)}, is that of "
        f"'{words[query]}' (word {query + 1}) on '{words[key]}' (word {key + 1}). The output has a row of {head_dim} "
        "numbers for each word."
    )


def _matrix(axes: Axes, row: Row, scale: Scale) -> AxesImage:
    """Draw a matrix with its numbers and return the image."""
    words, matrix = row["words"], row["matrix"]
    image = axes.imshow(matrix, cmap=scale.colours, vmin=scale.low, vmax=scale.high)
    for at, line in enumerate(matrix):
        for column, value in enumerate(line):
            colour = "white" if abs(value) > DARK * scale.high else "black"
            axes.text(column, at, f"{value:.2f}", ha="center", va="center", fontsize=5, color=colour)
    square = len(matrix[0]) == len(words)
    axes.set_xticks(range(len(words)) if square else [], words if square else [], rotation=60)
    axes.set_yticks(range(len(words)), words)
    axes.set_title(row["title"], fontsize="medium")
    axes.tick_params(length=0)
    return image


STUDY = Study("steps", "What does attention compute, matrix by matrix?", collect, draw, conclude)
