"""Figures over sequence length with matplotlib, in vector and pixel formats, the same bytes from the same records."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from attnbench.analysis.frame import current, rankable
from attnbench.analysis.series import Series, series
from attnbench.report.palette import Style, palette

if TYPE_CHECKING:
    import pandas as pd

FACETS = 6  # more are on the page; a figure with more can't be read
ONE_COLUMN, TWO_COLUMNS = 3.35, 7.0  # inches, of a paper set in two columns
FORMATS = ("svg", "png", "pdf")
UNDATED: dict[str, dict[str, None]] = {
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


@dataclass(frozen=True)
class Metric:
    """What a figure shows: a column, its axis, and where the interval is."""

    name: str
    column: str
    axis: str
    low: str | None = None
    high: str | None = None
    log: bool = False
    scale: float = 1.0


METRICS = (
    Metric("latency", "latency_ms", "latency (ms)", "latency_low_ms", "latency_high_ms", log=True),
    Metric("tflops", "tflops", "TFLOP/s"),
    Metric("memory", "peak_bytes", "peak memory above inputs (MiB)", log=True, scale=2**-20),
    Metric("speedup", "speedup", "speed-up over {baseline}"),
)


@dataclass(frozen=True)
class Drawn:
    """A figure on disk: its title, what it shows in words, and its files by format."""

    title: str
    alt: str
    files: dict[str, Path]


def write_figures(frame: pd.DataFrame, folder: Path, baseline: str | None) -> list[Drawn]:
    """Draw each metric over sequence length for each device, a facet a series; `frame` carries `speedup`."""
    folder.mkdir(parents=True, exist_ok=True)
    styles = palette(frame["variant"])
    drawn = []
    for device, cells in rankable(current(frame)).groupby("device_name", sort=True):
        facets = series(cells)
        for metric in METRICS:
            usable = [one for one in facets if one.frame[metric.column].notna().any()]
            if usable and not (metric.name == "speedup" and baseline is None):
                drawn.append(_write(usable, metric, str(device), baseline=baseline, styles=styles, folder=folder))
    return drawn


def slug(text: str) -> str:
    """Make a file name of a device's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "device"


def _write(
    facets: Sequence[Series],
    metric: Metric,
    device: str,
    *,
    baseline: str | None,
    styles: dict[str, Style],
    folder: Path,
) -> Drawn:
    axis = metric.axis.format(baseline=baseline)
    title = f"{axis[0].upper()}{axis[1:]} on {device}"
    shown = facets[:FACETS]
    with mpl.rc_context(STYLE):
        figure = draw(shown, metric, axis, styles)
        files = {}
        for kind in FORMATS:
            files[kind] = folder / f"{metric.name}-{slug(device)}.{kind}"
            figure.savefig(files[kind], metadata=UNDATED[kind])
    names = sorted({name for one in shown for name in one.frame["variant"]})
    left = f"; {len(facets) - len(shown)} further settings are in results.csv" if len(facets) > len(shown) else ""
    alt = f"{axis} against sequence length of {', '.join(names)} in {len(shown)} settings{left}"
    return Drawn(title, alt, files)


def draw(facets: Sequence[Series], metric: Metric, axis: str, styles: dict[str, Style]) -> Figure:
    """Draw one metric, a facet a series, with a legend for all."""
    columns = min(3, len(facets))
    rows = -(-len(facets) // columns)
    names = sorted({str(name) for one in facets for name in one.frame["variant"]})
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
        handles.update(_facet(axes, facets[index], metric, styles))
        axes.set_ylabel(axis if index % columns == 0 else "")
        axes.set_xlabel("sequence length" if index >= len(facets) - columns else "")
        axes.xaxis.set_label_coords(0.5, -0.17)  # placed here, because matplotlib measures every label to place them
        axes.yaxis.set_label_coords(-0.19, 0.5)
    shown = sorted(handles)
    legend_box = figure.legend(
        [handles[name] for name in shown], shown, loc="lower center", ncols=in_line, frameon=False
    )
    _set_margins(figure, legend)
    _part_ligatures([*legend_box.get_texts(), *(text for axes in figure.axes for text in (axes.title, *axes.texts))])
    return figure


def _part_ligatures(texts: Iterable[Any]) -> None:
    """Have `fl` drawn as two letters, by a matplotlib that would join them: a PDF embeds the font again for each."""
    for text in texts:
        if hasattr(text, "set_fontfeatures"):
            text.set_fontfeatures(("-liga",))


def _set_margins(figure: Figure, legend: float) -> None:
    """Lay the facets out in inches; matplotlib's own layout engine takes longer than all the drawing."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.08 / width, top=1 - 0.35 / height, bottom=(legend + 0.38) / height,
        wspace=0.24, hspace=0.5,
    )  # fmt: skip


def _facet(axes: Any, one: Series, metric: Metric, styles: dict[str, Style]) -> dict[str, Any]:
    handles = {}
    for name, cells in one.frame.groupby("variant", sort=True):
        points = cells[cells[metric.column].notna()].sort_values("length")
        if points.empty:
            continue
        style = styles[str(name)]
        lengths = points["length"].to_numpy()
        line = axes.plot(
            lengths, points[metric.column].to_numpy() * metric.scale, color=style.colour, marker=style.marker
        )[0]
        if style.dash:
            line.set_dashes(style.dash)
        if metric.low and metric.high:
            axes.fill_between(lengths, points[metric.low], points[metric.high], color=style.colour, alpha=0.2, lw=0)
        handles[str(name)] = line
    if metric.name == "speedup":
        axes.axhline(1.0, color="#777777", linewidth=0.8, zorder=0)
    _axes(axes, one, metric)
    return handles


def _axes(axes: Any, one: Series, metric: Metric) -> None:
    lengths = sorted(one.frame["length"].unique())
    axes.set_xscale("log", base=2)
    step = -(-len(lengths) // 6)
    axes.set_xticks(lengths[::step], [length_text(length) for length in lengths[::step]])
    axes.xaxis.set_minor_locator(NullLocator())
    if metric.log:
        axes.set_yscale("log", base=10)
        low, high = axes.get_ylim()
        decades = math.log10(high / low)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0), numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0)
    *contest, shape = one.title.split(" · ")  # in two texts: matplotlib lays out no text of two lines as it is told to
    axes.set_title(shape)
    above = STYLE["axes.titlepad"] + 1.2 * STYLE["axes.titlesize"]
    axes.annotate(
        ", ".join(contest), (0.5, 1), (0, above), xycoords="axes fraction", textcoords="offset points", ha="center",
        fontsize=STYLE["axes.titlesize"],
    )  # fmt: skip


def length_text(length: float) -> str:
    """Write a sequence length in short: 512, 1k, 16k."""
    return f"{int(length) // 1024}k" if length >= 1024 and length % 1024 == 0 else f"{int(length)}"
