"""The `steps` study, which shows each matrix that attention computes."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from attnbench.report.matplotlib_figures import STYLE
from attnbench.study.study import Rows, Settings, Study, compute, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NON_NEGATIVE = ("weights", "heads")  # steps whose colour scale starts at 0; the other colour scales are centred on 0
MAX_COLUMNS = 4  # maximum number of matrices side by side in the figure


def collect(settings: Settings, folder: Path) -> Rows:  # noqa: ARG001 - every study's `collect` takes a folder
    """Compute the matrix of each step for one sentence."""
    return compute("steps", settings.sizes)


def draw(rows: Rows, only: Container[str] | None = None) -> Figure:
    """Draw the matrices of all steps, or of the steps in `only`, as heat maps."""
    chosen = [row for row in rows if only is None or row["step"] in only]
    across = min(MAX_COLUMNS, len(chosen))
    down = -(-len(chosen) // across)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2.7 * across, 2.5 * down), layout="constrained")
        places = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, row in zip(places, chosen, strict=False):
            _matrix(axes, row["title"], row["words"], row["matrix"], non_negative=row["step"] in NON_NEGATIVE)
        for axes in places[len(chosen) :]:
            axes.axis("off")
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


def _matrix(axes: Axes, title: str, words: list[str], matrix: list[list[float]], *, non_negative: bool) -> None:
    limit = max(abs(value) for row in matrix for value in row)
    low, colours = (0.0, "Blues") if non_negative else (-limit, "RdBu_r")
    axes.imshow(matrix, cmap=colours, vmin=low, vmax=limit)
    square = len(matrix[0]) == len(words)
    axes.set_xticks(range(len(words)) if square else [], words if square else [], rotation=60)
    axes.set_yticks(range(len(words)), words)
    axes.set_title(title, fontsize="medium")
    axes.tick_params(length=0)


STUDY = Study("steps", "What does attention compute, matrix by matrix?", collect, draw, conclude)
