"""Heatmaps: coloured tables of the fastest variant at each sequence length and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.analysis.series import shape_text, with_length
from attnbench.report.chart_definitions import size_text

if TYPE_CHECKING:
    from attnbench.analysis.results import Results
    from attnbench.report.palette import Style

MAX_HEATMAPS = 200  # per page
KEY = ["device_name", "direction", "mask", "dtype", "mode", "shape"]
NEEDED = [*KEY[:-1], "workload", "workload_id", "batch", "length", "fastest", "tied", "next", "margin", "latency_ms"]


@dataclass(frozen=True)
class Square:
    """The fastest variant of one shape, shown as one square of a heatmap.

    `rivals` are the variants that are tied with `variant`, and `margin` is the speed-up over the fastest variant that
    is measurably slower. Tied variants are in alphabetical order, so that ties between the same variants always look
    the same: `variant` is the first of the tied variants, and `other` is the colour of the second.
    """

    variant: str
    colour: str
    other: str | None
    rivals: tuple[str, ...]
    margin: float | None
    detail: str


@dataclass(frozen=True)
class Heatmap:
    """The heatmap of one setting, with a row for each batch size and a column for each length.

    A square is None if no variant was ranked on its shape.
    """

    setting: dict[str, str]
    lengths: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Square | None, ...]], ...]


def heatmaps(results: Results, styles: Mapping[str, Style]) -> list[Heatmap]:
    """Return a heatmap for each setting with a shape on which two or more variants are ranked, ordered by setting."""
    table = results.winners
    table = with_length(table[table["contenders"] > 1])
    settings: dict[tuple[str, ...], list[dict[Any, Any]]] = {}
    for cell in table[NEEDED].to_dict("records"):
        key = (*(str(cell[name]) for name in KEY[:-1]), shape_text(vars(cell["workload"])))
        settings.setdefault(key, []).append(cell)
    return [
        _heatmap(dict(zip(KEY, key, strict=True)), cells, styles)
        for key, cells in sorted(settings.items())[:MAX_HEATMAPS]
    ]


def _heatmap(setting: dict[str, str], cells: list[dict[Any, Any]], styles: Mapping[str, Style]) -> Heatmap:
    lengths = sorted({cell["length"] for cell in cells})
    places = {(cell["batch"], cell["length"]): cell for cell in cells}
    rows = [
        (batch, tuple(_square(places.get((batch, length)), styles) for length in lengths))
        for batch in sorted({cell["batch"] for cell in cells})
    ]
    return Heatmap(setting, tuple(size_text(length) for length in lengths), tuple(rows))


def _square(cell: Mapping[Any, Any] | None, styles: Mapping[str, Style]) -> Square | None:
    if cell is None:
        return None
    first, *rivals = sorted(cell["tied"])
    margin = None if cell["margin"] != cell["margin"] else float(cell["margin"])
    behind = f", {margin:.2f}x as fast as {cell['next']}" if margin else ""
    tie = f"; a tie of {', '.join((first, *rivals))}" if rivals else ""
    detail = f"{cell['workload_id']}: {cell['fastest']}, {cell['latency_ms']:.4g} ms{behind}{tie}"
    other = styles[rivals[0]].colour if rivals else None
    return Square(first, styles[first].colour, other, tuple(rivals), margin, detail)
