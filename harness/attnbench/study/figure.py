"""Line charts and heat maps for studies, in the style of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from attnbench.report.chart_definitions import size_text
from attnbench.report.matplotlib_figures import STYLE
from attnbench.report.palette import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from attnbench.study.study import Rows

LEGEND_ENTRY_INCHES = 1.1  # width of one legend entry


@dataclass(frozen=True)
class Panel:
    """One pair of axes, with a line for each value of the field that `group` names.

    `x` and `y` name the fields of a row that hold the coordinates of a point. `low` and `high`, if given, name the
    fields that hold the lower and upper edges of a band around the line.
    """

    x: str
    x_label: str
    y: str
    y_label: str
    group: str = "variant"
    log_y: bool = True
    low: str | None = None
    high: str | None = None


def lines(panels: Sequence[tuple[Panel, Rows]]) -> Figure:
    """Draw panels side by side, with one legend below them."""
    names = sorted({str(row[panel.group]) for panel, rows in panels for row in rows})
    styles = palette(names)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(panels) + 0.2, 3.0), layout="constrained")
        handles: dict[str, Any] = {}
        for axes, (panel, rows) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            for name, its_rows in grouped(rows, panel.group).items():
                style = styles[name]
                its_rows.sort(key=lambda row: row[panel.x])
                x, y = [row[panel.x] for row in its_rows], [row[panel.y] for row in its_rows]
                dash = (0, style.dash) if style.dash else "-"
                (handles[name],) = axes.plot(x, y, color=style.colour, marker=style.marker, linestyle=dash, label=name)
                if panel.low and panel.high:
                    low, high = [row[panel.low] for row in its_rows], [row[panel.high] for row in its_rows]
                    axes.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)
            _label(axes, panel, sorted({row[panel.x] for row in rows}))
        figure.legend(
            [handles[name] for name in sorted(handles)],
            sorted(handles),
            loc="outside lower center",
            ncols=min(4, int(figure.get_figwidth() / LEGEND_ENTRY_INCHES)),
            frameon=False,
        )
    return figure


def heat_maps(
    maps: Sequence[tuple[str, Sequence[str], Sequence[Sequence[float]]]], x_label: str, y_label: str
) -> Figure:
    """Draw square heat maps side by side, with one colour scale for all of them.

    Each map is a tuple of its title, the words that label both axes, and one row of weights for each word.
    """
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(3.4 * len(maps) + 0.6, 3.4), layout="constrained")
        all_axes = figure.subplots(1, len(maps), squeeze=False)[0]
        largest = max(value for _, _, rows in maps for row in rows for value in row)
        for axes, (title, words, rows) in zip(all_axes, maps, strict=True):
            image = axes.imshow(rows, cmap="viridis", vmin=0.0, vmax=largest)
            axes.set_xticks(range(len(words)), words, rotation=60, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(words)), words)
            axes.set(title=title, xlabel=x_label, ylabel=y_label)
        figure.colorbar(image, ax=list(all_axes), label="attention weight", shrink=0.8)
    return figure


def grouped(rows: Rows, key: str) -> dict[str, Rows]:
    """Group rows by the value of the field `key`, converted to a string."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(str(row[key]), []).append(row)
    return groups


def _label(axes: Axes, panel: Panel, ticks: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size_text(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    if panel.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)


def derived(rows: Rows, name: str, compute: Callable[[Mapping[str, Any]], float]) -> Rows:
    """Return copies of the rows with an additional field `name`, which is computed from each row."""
    return [{**row, name: compute(row)} for row in rows]
