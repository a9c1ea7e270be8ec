"""The printed figures of a report. They are planned here as plain values and drawn by matplotlib in another process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attnbench.errors import UsageError
from attnbench.report.chart_definitions import MAX_FACETS, METRIC_CHARTS, MetricChart, size_text
from attnbench.report.page_data import heading
from attnbench.report.palette import Style, palette

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.analysis.results import Results
    from attnbench.analysis.series import Series
    from attnbench.report.matplotlib_figures import Curve, Facet, Plot

MAX_FIGURES = 24  # per report; each figure is drawn in three formats
MAX_TICKS = 6  # maximum number of sequence lengths that are labelled on an axis
FORMATS = ("svg", "png", "pdf")


@dataclass(frozen=True)
class ReportFigure:
    """A figure on disk: its device, its title, a description for readers who can't see it, and its files by format."""

    device_name: str
    title: str
    description: str
    files: dict[str, Path]


class FigureProcess:
    """A process that draws the report's figures. The figure files are complete once `wait` has returned.

        with FigureProcess(results, folder) as process:
            ...  # write other parts of the report
            process.wait()

    At most MAX_FIGURES figures are drawn.
    """

    def __init__(self, results: Results, folder: Path) -> None:
        """Start drawing a figure for each metric and device, with a facet for each series."""
        folder.mkdir(parents=True, exist_ok=True)
        planned = _planned(results, folder)
        self.figures = [figure for figure, _ in planned[:MAX_FIGURES]]
        self.left_out = len(planned) - len(self.figures)
        self._process: subprocess.Popen[str] | None = None
        if self.figures:
            self._process = _start([plot for _, plot in planned[:MAX_FIGURES]])

    def __enter__(self) -> Self:
        """Return this object. The figures are drawn while the `with` block runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the process if it is still drawing, for example because the `with` block raised an error."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    @property
    def note(self) -> str:
        """A sentence that says how many figures are left out, or an empty string if every figure is drawn."""
        return (
            f"{self.left_out} further figures are not drawn: their values are in results.csv." if self.left_out else ""
        )

    def wait(self) -> None:
        """Wait until all figures are drawn.

        Raises UsageError if a figure can't be drawn or written.
        """
        if self._process is None:
            return
        _, errors = self._process.communicate()
        if self._process.returncode:
            lines = errors.strip().splitlines() or [f"exit code {self._process.returncode}"]
            raise UsageError(f"the figures can't be drawn: {lines[-1]}")


def slug(text: str) -> str:
    """Convert a name, such as a device name, to a form that is safe in file names, e.g. `AMD EPYC` to `amd-epyc`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "device"


def _start(plots: list[Plot]) -> subprocess.Popen[str]:
    # Pass the plots in a file, because a pipe could fill up and block this process.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        json.dump(plots, file, allow_nan=False)
        file.seek(0)
        command = [sys.executable, "-m", "attnbench.report.matplotlib_figures"]
        return subprocess.Popen(command, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _planned(results: Results, folder: Path) -> list[tuple[ReportFigure, Plot]]:
    styles, baseline = palette(results.frame["variant"]), results.baseline
    planned = []
    for device in sorted({series.device_name for series in results.series}):
        facets = [series for series in results.series if series.device_name == device]
        for chart in METRIC_CHARTS:
            usable = [series for series in facets if series.frame[chart.column].notna().any()] if chart.printed else []
            if usable:
                files = {kind: folder / f"{chart.name}-{slug(device)}.{kind}" for kind in FORMATS}
                plot: Plot = {
                    "files": {kind: str(path) for kind, path in files.items()},
                    "axis_title": chart.axis_title(baseline),
                    "log": chart.log,
                    "reference": chart.reference,
                    "facets": [_facet(series, chart, styles, baseline) for series in usable[:MAX_FACETS]],
                }
                title = f"{chart.titled(baseline)} on {device}"
                planned.append((ReportFigure(device, title, _description(title, usable, chart.note), files), plot))
    return planned


def _description(title: str, facets: Sequence[Series], note: str) -> str:
    shown = facets[:MAX_FACETS]
    names = sorted({name for series in shown for name in series.frame["variant"]})
    left = f"; {len(facets) - len(shown)} further settings are in results.csv" if len(facets) > len(shown) else ""
    return f"{title}: {', '.join(names)}, in {len(shown)} settings{left}. {note}".strip()


def _facet(series: Series, chart: MetricChart, styles: dict[str, Style], baseline: str | None) -> Facet:
    cells = _with_speedup_interval(series.frame, baseline)
    cells = cells[cells[chart.column].notna()].sort_values("length", kind="stable")
    lengths = sorted(set(series.frame["length"].tolist()))
    setting, _, shape = heading(series, several=False).partition(" | ")
    return {
        "title": (setting, shape),
        "ticks": {size_text(length): length for length in lengths[:: -(-len(lengths) // MAX_TICKS)]},
        "curves": [_curve(str(name), rows, chart, styles[str(name)]) for name, rows in cells.groupby("variant")],
    }


def _with_speedup_interval(cells: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return the cells with the additional columns `speedup_low` and `speedup_high`.

    These bounds are computed from the latency intervals of the cell and of the baseline.
    """
    base = cells[cells["variant"] == baseline].set_index("workload_id")
    low, high = (cells["workload_id"].map(base[name]) for name in ("latency_low_ms", "latency_high_ms"))
    return cells.assign(speedup_low=low / cells["latency_high_ms"], speedup_high=high / cells["latency_low_ms"])


def _curve(name: str, rows: pd.DataFrame, chart: MetricChart, style: Style) -> Curve:
    def values(column: str | None) -> list[float]:
        return [] if column is None or rows[column].isna().any() else (rows[column] * chart.factor).tolist()

    return {
        "variant": name,
        "colour": style.colour,
        "marker": style.marker,
        "dash": list(style.dash),
        "lengths": rows["length"].tolist(),
        "values": values(chart.column),
        "low": values(chart.low),
        "high": values(chart.high),
    }
