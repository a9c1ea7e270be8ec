"""Draw plots for print with matplotlib, as SVG, PNG and PDF files.

`python -m attnbench.report.matplotlib_figures < plots.json` draws every `Plot` in a JSON list. A report runs this
command as a separate process, so that the figures are drawn while the rest of the report is written.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Any, TypedDict

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from attnbench.report.chart_definitions import LENGTH_TITLE

ONE_COLUMN, TWO_COLUMNS = 3.35, 7.0  # figure widths in inches, for a paper with two columns
LABEL_INCHES = 0.36  # distance of a vertical axis to its label
# The value None omits an entry. Dates and versions are omitted, so that identical plots produce byte-identical files.
METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 7, "axes.titlepad": 6, "axes.labelsize": 7,
    "legend.fontsize": 7, "xtick.labelsize": 6, "ytick.labelsize": 6, "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True, "axes.titley": 1.0, "xtick.bottom": False, "ytick.left": False, "grid.alpha": 0.3,
    "grid.linewidth": 0.5, "lines.linewidth": 1.2, "lines.markersize": 3.5,
    "svg.hashsalt": "attnbench", "svg.fonttype": "none", "pdf.fonttype": 42, "savefig.dpi": 160,
}  # fmt: skip


class Curve(TypedDict):
    """A variant's line: its style, lengths and values; `low` and `high` are empty if there is no interval."""

    variant: str
    colour: str
    marker: str
    dash: list[float]
    lengths: list[int]
    values: list[float]
    low: list[float]
    high: list[float]


class Facet(TypedDict):
    """One pair of axes: a two-line title, the sequence lengths labelled on the horizontal axis, and the curves."""

    title: tuple[str, str]
    ticks: dict[str, int]
    curves: list[Curve]


class Plot(TypedDict):
    """A figure as plain values: a path for each format, the vertical axis, a value to mark with a line, and facets."""

    files: dict[str, str]
    axis_title: str
    log: bool
    reference: float | None
    facets: list[Facet]


def write(plot: Plot) -> None:
    """Draw a plot and write its files. Identical plots produce byte-identical files."""
    with mpl.rc_context(STYLE):
        figure = draw(plot)
        for kind, path in plot["files"].items():
            figure.savefig(path, metadata=METADATA[kind])


def draw(plot: Plot) -> Figure:
    """Return a matplotlib figure of a plot's facets, which share one legend."""
    facets = plot["facets"]
    columns = min(3, len(facets))
    rows = -(-len(facets) // columns)
    names = sorted({curve["variant"] for facet in facets for curve in facet["curves"]})
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    in_line = max(1, int(width / (0.45 + 0.058 * max(map(len, names)))))
    legend = 0.2 + 0.14 * -(-len(names) // in_line)
    figure = Figure(figsize=(width, 1.95 * rows + legend))
    grid = figure.subplots(rows, columns, squeeze=False)
    handles: dict[str, Any] = {}
    for index, axes in enumerate(grid.flat):
        if index >= len(facets):
            axes.set_axis_off()
            continue
        handles.update(_facet(axes, facets[index], plot))
        axes.set_ylabel(plot["axis_title"] if index % columns == 0 else "")
        axes.set_xlabel(LENGTH_TITLE if index >= len(facets) - columns else "")
    shown = sorted(handles)
    legend_box = figure.legend(
        [handles[name] for name in shown], shown, loc="lower center", ncols=in_line, frameon=False
    )
    _set_margins(figure, legend)
    for axes in figure.axes:
        # Fix the positions of the axis labels. Otherwise, matplotlib measures every tick label to place them.
        axes.xaxis.set_label_coords(0.5, -0.17)
        axes.yaxis.set_label_coords(-LABEL_INCHES / (width * axes.get_position().width), 0.5)
    _disable_ligatures([*legend_box.get_texts(), *(text for axes in figure.axes for text in (axes.title, *axes.texts))])
    return figure


def _disable_ligatures(texts: Iterable[Any]) -> None:
    """Disable ligatures such as `fl`, for which newer versions of matplotlib embed an additional font in a PDF file."""
    for text in texts:
        if hasattr(text, "set_fontfeatures"):
            text.set_fontfeatures(("-liga",))


def _set_margins(figure: Figure, legend: float) -> None:
    """Set fixed margins, because running matplotlib's layout engine takes longer than drawing the whole figure."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.08 / width, top=1 - 0.35 / height, bottom=(legend + 0.38) / height,
        wspace=0.24, hspace=0.5,
    )  # fmt: skip


def _facet(axes: Any, facet: Facet, plot: Plot) -> dict[str, Any]:
    is_single = len({length for curve in facet["curves"] for length in curve["lengths"]}) == 1
    handles = _dots(axes, facet) if is_single else _lines(axes, facet)
    if plot["reference"] is not None:
        axes.axhline(plot["reference"], color="#777777", linewidth=0.8, zorder=0)
    _axes(axes, facet, log=plot["log"], is_single=is_single)
    return handles


def _dots(axes: Any, facet: Facet) -> dict[str, Any]:
    """Draw the values at a single length side by side, with their intervals."""
    handles = {}
    for place, curve in enumerate(facet["curves"]):
        places, colour = [place] * len(curve["values"]), curve["colour"]
        handles[curve["variant"]] = axes.plot(places, curve["values"], color=colour, marker=curve["marker"])[0]
        if curve["low"]:
            axes.vlines(places, curve["low"], curve["high"], color=colour)
    return handles


def _lines(axes: Any, facet: Facet) -> dict[str, Any]:
    handles = {}
    for curve in facet["curves"]:
        colour, lengths = curve["colour"], curve["lengths"]
        line = axes.plot(lengths, curve["values"], color=colour, marker=curve["marker"])[0]
        if curve["dash"]:
            line.set_dashes(curve["dash"])
        if curve["low"]:
            axes.fill_between(lengths, curve["low"], curve["high"], color=colour, alpha=0.2, lw=0)
        handles[curve["variant"]] = line
    return handles


def _axes(axes: Any, facet: Facet, *, log: bool, is_single: bool) -> None:
    if is_single:  # the variants are side by side, above the only length
        axes.set_xlim(-1, len(facet["curves"]))
        axes.set_xticks([(len(facet["curves"]) - 1) / 2], list(facet["ticks"])[:1])
    else:
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(facet["ticks"].values()), list(facet["ticks"]))
    axes.xaxis.set_minor_locator(NullLocator())
    if log:
        axes.set_yscale("log", base=10)
        low, high = axes.get_ylim()
        decades = math.log10(high / low)
        ticks = LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0), numticks=9)
        # An axis that spans less than 0.7 decades would have too few logarithmic ticks.
        axes.yaxis.set_major_locator(ticks if decades > 0.7 else MaxNLocator(4))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0)
    above, shape = facet["title"]  # the first line is drawn separately, because matplotlib misplaces two-line titles
    axes.set_title(shape)
    height = STYLE["axes.titlepad"] + 1.2 * STYLE["axes.titlesize"]
    axes.annotate(
        above, (0.5, 1), (0, height), xycoords="axes fraction", textcoords="offset points", ha="center",
        fontsize=STYLE["axes.titlesize"],
    )  # fmt: skip


def main() -> None:
    """Read a JSON list of plots from standard input, and draw them."""
    for plot in json.load(sys.stdin):
        try:
            write(plot)
        except OSError as error:
            sys.exit(f"{error.filename}: {error.strerror or error}")


if __name__ == "__main__":
    main()
