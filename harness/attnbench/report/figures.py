"""Figures of a report for print: what they show, as plain values, which another process draws meanwhile."""

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
from attnbench.report.palette import Style, palette

if TYPE_CHECKING:
    from attnbench.analysis.results import Results
    from attnbench.analysis.series import Series
    from attnbench.report.matplotlib_figures import Curve, Facet, Plot

FACETS = 6  # more are on the page; a figure with more can't be read
MOST = 24  # figures of a report; each is drawn three times
TICKS = 6  # lengths that are named on an axis, at most
FORMATS = ("svg", "png", "pdf")


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


class Drawing:
    """Figures that are being drawn; their files are there once `wait` has returned. Past MOST, none are drawn."""

    def __init__(self, results: Results, folder: Path) -> None:
        """Begin to draw each metric over sequence length for each device, a facet a series."""
        folder.mkdir(parents=True, exist_ok=True)
        planned = _planned(results, folder)
        self.figures = [figure for figure, _ in planned[:MOST]]
        self.left_out = len(planned) - len(self.figures)
        self._process: subprocess.Popen[str] | None = None
        if self.figures:
            self._process = _start([plot for _, plot in planned[:MOST]])

    def __enter__(self) -> Self:
        """Let it draw while the block does something else."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, where it still draws because the block failed."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    @property
    def note(self) -> str:
        """Say what is not drawn; empty where all is."""
        return (
            f"{self.left_out} further figures are not drawn: their values are in results.csv." if self.left_out else ""
        )

    def wait(self) -> None:
        """Wait until all is drawn; raises UsageError where a figure can't be written."""
        if self._process is None:
            return
        _, errors = self._process.communicate()
        if self._process.returncode:
            said = errors.strip().splitlines() or [f"exit code {self._process.returncode}"]
            raise UsageError(f"the figures can't be drawn: {said[-1]}")


def slug(text: str) -> str:
    """Make a file name of a device's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "device"


def length_text(length: float) -> str:
    """Write a sequence length in short: 512, 1k, 16k."""
    return f"{int(length) // 1024}k" if length >= 1024 and length % 1024 == 0 else f"{int(length)}"


def _start(plots: list[Plot]) -> subprocess.Popen[str]:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:  # no pipe: it would have to be fed
        json.dump(plots, told, allow_nan=False)
        told.seek(0)
        command = [sys.executable, "-m", "attnbench.report.matplotlib_figures"]
        return subprocess.Popen(command, stdin=told, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _planned(results: Results, folder: Path) -> list[tuple[Drawn, Plot]]:
    styles, baseline = palette(results.frame["variant"]), results.baseline
    found = []
    for device in sorted({one.device_name for one in results.series}):
        facets = [one for one in results.series if one.device_name == device]
        for metric in METRICS:
            usable = [one for one in facets if one.frame[metric.column].notna().any()]
            if usable and not (metric.name == "speedup" and baseline is None):
                files = {kind: folder / f"{metric.name}-{slug(device)}.{kind}" for kind in FORMATS}
                axis = metric.axis.format(baseline=baseline)
                drawn = _drawn(usable, axis, device, files)
                found.append((drawn, _plot(usable[:FACETS], metric, axis, styles=styles, files=files)))
    return found


def _drawn(facets: Sequence[Series], axis: str, device: str, files: dict[str, Path]) -> Drawn:
    shown = facets[:FACETS]
    names = sorted({name for one in shown for name in one.frame["variant"]})
    left = f"; {len(facets) - len(shown)} further settings are in results.csv" if len(facets) > len(shown) else ""
    alt = f"{axis} against sequence length of {', '.join(names)} in {len(shown)} settings{left}"
    return Drawn(f"{axis[0].upper()}{axis[1:]} on {device}", alt, files)


def _plot(
    shown: Sequence[Series], metric: Metric, axis: str, *, styles: dict[str, Style], files: dict[str, Path]
) -> Plot:
    return {
        "files": {kind: str(path) for kind, path in files.items()},
        "axis": axis,
        "log": metric.log,
        "level": 1.0 if metric.name == "speedup" else None,
        "facets": [_facet(one, metric, styles) for one in shown],
    }


def _facet(one: Series, metric: Metric, styles: dict[str, Style]) -> Facet:
    columns = ["variant", "length", metric.column, metric.low or metric.column, metric.high or metric.column]
    points: dict[str, list[tuple[int, float, float, float]]] = {}
    for variant, *point in zip(*(one.frame[name].tolist() for name in columns), strict=True):
        if point[1] == point[1]:
            points.setdefault(variant, []).append((point[0], point[1], point[2], point[3]))
    lengths = sorted(set(one.frame["length"].tolist()))
    *contest, shape = one.title.split(" · ")
    return {
        "head": (", ".join(contest), shape),
        "ticks": {length_text(length): length for length in lengths[:: -(-len(lengths) // TICKS)]},
        "curves": [_curve(name, found, metric, styles[name]) for name, found in sorted(points.items())],
    }


def _curve(name: str, points: list[tuple[int, float, float, float]], metric: Metric, style: Style) -> Curve:
    points = sorted(points, key=lambda point: point[0])
    banded = metric.low is not None
    return {
        "variant": name,
        "colour": style.colour,
        "marker": style.marker,
        "dash": list(style.dash),
        "lengths": [length for length, *_ in points],
        "values": [value * metric.scale for _, value, *_ in points],
        "low": [low for *_, low, _ in points] if banded else [],
        "high": [high for *_, high in points] if banded else [],
    }
