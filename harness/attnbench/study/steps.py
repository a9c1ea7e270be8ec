"""The study `steps`: what attention computes, matrix by matrix."""

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

POSITIVE = ("weights", "heads")  # their colour scale starts at 0; that of all other matrices is centred on it
ACROSS = 4  # matrices side by side in the figure


def collect(settings: Settings, folder: Path) -> Rows:  # noqa: ARG001 - part of the interface of a study
    """Compute the matrices of each step for one sentence."""
    return compute("steps", settings.sizes)


def draw(rows: Rows, only: Container[str] | None = None) -> Figure:
    """Draw the matrices of all steps, or only of the named ones, as heat maps."""
    chosen = [row for row in rows if only is None or row["step"] in only]
    across = min(ACROSS, len(chosen))
    down = -(-len(chosen) // across)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2.7 * across, 2.5 * down), layout="constrained")
        places = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, row in zip(places, chosen, strict=False):
            _matrix(axes, row["title"], row["words"], row["matrix"], positive=row["step"] in POSITIVE)
        for axes in places[len(chosen) :]:
            axes.axis("off")
    return figure


def conclude(rows: Rows) -> str:
    """Return the sizes of the matrices and the place of the largest weight."""
    by_step = {row["step"]: row for row in rows}
    words, weights = by_step["weights"]["words"], by_step["weights"]["matrix"]
    width, head_dim = len(by_step["embeddings"]["matrix"][0]), len(by_step["query"]["matrix"][0])
    most, query, key = max((value, i, j) for i, row in enumerate(weights) for j, value in enumerate(row))
    return (
        f"{len(words)} words become rows of {width} numbers, and these queries, keys and values of {head_dim}. Their "
        f"{len(words) ** 2} scores, divided by the square root of {head_dim}, become weights that sum to 1 in a row. "
        f"The largest, {number(most)}, is that of '{words[query]}' (word {query + 1}) on '{words[key]}' (word "
        f"{key + 1}). The output has a row of {head_dim} numbers for each word again."
    )


def _matrix(axes: Axes, title: str, words: list[str], matrix: list[list[float]], *, positive: bool) -> None:
    limit = max(abs(value) for row in matrix for value in row)
    low, colours = (0.0, "Blues") if positive else (-limit, "RdBu_r")
    axes.imshow(matrix, cmap=colours, vmin=low, vmax=limit)
    square = len(matrix[0]) == len(words)
    axes.set_xticks(range(len(words)) if square else [], words if square else [], rotation=60)
    axes.set_yticks(range(len(words)), words)
    axes.set_title(title, fontsize="medium")
    axes.tick_params(length=0)


STUDY = Study("steps", "What does attention compute, matrix by matrix?", collect, draw, conclude)
