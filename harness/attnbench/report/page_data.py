"""The data that is embedded in the page: all cells, column by column, with each distinct string stored only once."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import shlex
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.analysis.series import Series, series, with_length
from attnbench.plan.rerun import rerun_command
from attnbench.report.palette import palette
from attnbench.workloads.workload import AXES

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.analysis.device_scaling import ParallelGain
    from attnbench.analysis.length_scaling import Crossover, Exponent, Reach
    from attnbench.analysis.results import Results
    from attnbench.report.content import Content
    from attnbench.report.derived_tables import Fits

MAX_DETAILED_CELLS = 20_000  # with more cells, the page leaves out histograms, logs and commands
HISTOGRAM_BINS = 16
LOG_TAIL_BYTES = 1_500  # number of bytes shown from the end of each cell's log
MAX_LOG_CHARACTERS = 300_000  # in total for all logs on the page
MAX_CHART_ROWS = 4_000  # per chart of derived values
ENDS = ["longer ones run out of memory", "all lengths tried fit", "longer ones fail for other reasons"]
TEXT_COLUMNS = (
    "variant",
    "device_name",
    "device",
    "run",
    "status",
    "reason",
    "mode",
    "plugin",
    "stopped_by",
    "environment_id",
)
NUMBER_COLUMNS = {  # the number of significant digits to store in each column
    "latency_ms": 5, "latency_low_ms": 5, "latency_high_ms": 5, "tflops": 4, "gbps": 4, "peak_bytes": 12,
    "saved_bytes": 12, "first_call_ns": 4, "error_ratio": 3, "error_max_abs": 3, "samples": 8, "roofline_pct": 4,
    "energy_mj": 4,
}  # fmt: skip


class TextIndex:
    """A list of distinct strings, numbered in the order in which they were added. None and NaN have no number."""

    def __init__(self) -> None:
        self._places: dict[Hashable, int] = {}

    def place(self, text: Any) -> int | None:
        """Return the index of a string in the string table, appending it if it is new. Return None for None and NaN."""
        if text is None or text != text:  # noqa: PLR0124 - NaN differs from itself
            return None
        return self._places.setdefault(text, len(self._places))

    @property
    def all(self) -> list[Any]:
        """The distinct strings, in the order in which they were added."""
        return list(self._places)


def payload(content: Content) -> dict[str, Any]:
    """Return the page's data as JSON values.

    `cells` contains a list for each column. A column of strings or workloads contains indices into a list of the
    distinct strings or workloads.
    """
    results = content.results
    frame = with_length(results.current[~results.current["control"]]).reset_index(drop=True)
    detailed = len(frame) <= MAX_DETAILED_CELLS
    columns, lists = _texts(frame)
    for name, digits in NUMBER_COLUMNS.items():
        if name in frame:
            columns[name] = _rounded(frame[name], digits)
    columns["exact"] = frame["exact"].astype(int).tolist()
    several = len(set(frame["device_name"])) > 1
    settings, contests, columns["setting"] = _settings(frame, several=several)
    workloads, columns["workload"] = _workloads(frame)
    columns["cell_id"] = frame["cell_id"].tolist()
    if detailed:
        columns["histogram"] = [
            _histogram(hot or cold) for hot, cold in zip(frame["samples_ns"], frame["cold_samples_ns"], strict=True)
        ]
        lists["log"], columns["log"] = _logs(frame, {folder.name: folder for folder in results.folders})
        columns["rerun"] = _commands(frame, results)
    styles = palette(results.frame["variant"])
    return {
        "baseline": results.baseline,
        "lists": lists,
        "styles": {name: {"colour": style.colour, "dash": style.dash} for name, style in styles.items()},
        "settings": settings,
        "contests": contests,
        "fits": fitted(content.fits, several=several),
        "workloads": workloads,
        "detailed": detailed,
        "cells": columns,
    }


def packed(value: Mapping[str, Any]) -> str:
    """Return a value as gzipped JSON in base64, which can't contain a tag that ends the script element around it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _commands(frame: pd.DataFrame, results: Results) -> list[str]:
    """Return, for each cell, the command that runs it again."""
    manifests = {folder.name: manifest for folder, manifest in zip(results.folders, results.manifests, strict=True)}
    return [
        shlex.join(rerun_command(variant, workload, device, manifests.get(run, {})))
        for run, variant, workload, device in zip(
            frame["run"], frame["variant"], frame["workload"], frame["device"], strict=True
        )
    ]


def _texts(frame: pd.DataFrame) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    columns, lists = {}, {}
    for name in TEXT_COLUMNS:
        texts = TextIndex()
        columns[name] = [texts.place(text) for text in frame[name]]
        lists[name] = texts.all
    for name in ("kernels", "flags"):
        texts = TextIndex()
        columns[name] = [texts.place(", ".join(value)) if value else None for value in frame[name]]
        lists[name] = texts.all
    return columns, lists


def _rounded(values: pd.Series, digits: int) -> list[float | None]:
    present = values.notna()
    return [float(f"{value:.{digits}g}") if known else None for value, known in zip(values, present, strict=True)]


def _settings(frame: pd.DataFrame, *, several: bool) -> tuple[list[str], list[str], list[int]]:
    """Return the series headings, the same headings without device names, and the index of each cell's heading."""
    places = np.zeros(len(frame), dtype=int)
    names = TextIndex()
    contests: list[str] = []
    for line in series(frame):
        places[line.frame.index] = place = names.place(heading(line, several=several)) or 0
        if place == len(contests):
            contests.append(heading(line, several=False))
    return names.all, contests, places.tolist()


def _workloads(frame: pd.DataFrame) -> tuple[list[dict[str, Any]], list[int]]:
    texts = TextIndex()
    places = [texts.place(name) or 0 for name in frame["workload_id"]]
    first = frame.drop_duplicates("workload_id")
    rows = []
    for cell in first.to_dict("records"):
        shape = {name: None if cell[name] != cell[name] else cell[name] for name in AXES}
        rows.append({"id": cell["workload_id"], **shape, "length": cell["length"]})
    return rows, places


def _histogram(samples: tuple[float, ...]) -> list[Any] | None:
    """Return [smallest sample in ms, largest sample in ms, count in each bin, ...], or None if there are no samples."""
    if not samples:
        return None
    counts, _ = np.histogram(samples, HISTOGRAM_BINS)
    return [float(f"{min(samples) / 1e6:.5g}"), float(f"{max(samples) / 1e6:.5g}"), *counts.tolist()]


def _logs(frame: pd.DataFrame, runs: Mapping[str, Path]) -> tuple[list[str], list[int | None]]:
    texts, taken, places = TextIndex(), 0, []
    for run, log, status in zip(frame["run"], frame["log"], frame["status"], strict=True):
        wanted = isinstance(log, str) and status not in ("ok", "unsupported") and taken < MAX_LOG_CHARACTERS
        text = log_end(runs[run], log) if wanted else None
        taken += len(text or "")
        places.append(texts.place(text))
    return texts.all, places


def log_end(run: Path, log: str) -> str | None:
    """Return the end of a cell's log, or None if the log does not exist or is outside the run's folder."""
    path = (run / log).resolve()
    if not path.is_relative_to(run.resolve()) or not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        return file.read(LOG_TAIL_BYTES).decode("utf-8", "replace")


def fitted(fits: Fits, *, several: bool) -> dict[str, list[dict[str, Any]]]:
    """Return the data rows of all charts that show derived values, keyed by chart name.

    The rows include the fields by which the page filters them. If `several` is true, the headings of exponents,
    crossovers and reaches include the device's name.
    """
    found = {
        "exponents": [_exponent(exponent, several=several) for exponent in fits.exponents],
        "crossovers": [_crossover(crossover, several=several) for crossover in fits.crossovers],
        "reaches": [
            _reach(reach, several=several)
            for reach in fits.reaches
            if reach.largest_ok is not None and reach.series.batch is not None
        ],
        "scalings": _scalings(fits.gains),
    }
    return {name: rows[:MAX_CHART_ROWS] for name, rows in found.items()}


def _exponent(exponent: Exponent, *, several: bool) -> dict[str, Any]:
    numbers = {"exponent": exponent.exponent, "low": exponent.low, "high": exponent.high, "flops": exponent.expected}
    return {
        **_filters(exponent.series, several=several),
        "variant": exponent.variant,
        **{name: _short(value) for name, value in numbers.items()},
    }


def _crossover(crossover: Crossover, *, several: bool) -> dict[str, Any]:
    return {
        **_filters(crossover.series, several=several),
        "before": crossover.before,
        "after": crossover.after,
        "pair": f"{crossover.after} over {crossover.before}",
        "length": round(crossover.length),
        "low": round(crossover.low),
        "high": round(crossover.high),
    }


def _reach(reach: Reach, *, several: bool) -> dict[str, Any]:
    return {
        **_filters(reach.series, several=several, batch=False),
        "variant": reach.variant,
        "batch": reach.series.batch,
        "largest": reach.largest_ok,
        "out": reach.smallest_out,
        "end": ENDS[0] if reach.smallest_out is not None else ENDS[1] if reach.all_fit else ENDS[2],
    }


def heading(line: Series, *, several: bool, batch: bool = True) -> str:
    """Return the heading of a series: two lines joined by ` | `, which the page's charts show one above the other.

    The heading includes the device's name if `several` is true, and the batch size if `batch` is true.
    """
    *what, shape = line.title.split(" · ")
    shape = shape if batch else shape.partition(" ")[2]
    return f"{' · '.join(what)} | {f'{line.device_name} · ' if several else ''}{shape}"


def _filters(line: Series, *, several: bool, batch: bool = True) -> dict[str, Any]:
    fields = {
        "device_name": line.device_name,
        "direction": line.direction,
        "mask": line.mask,
        "dtype": line.dtype,
        "mode": line.mode,
    }
    return {**fields, "setting": heading(line, several=several, batch=batch)}


def _scalings(gains: Iterable[ParallelGain]) -> list[dict[str, Any]]:
    """Return a row for each setting, variant and number of devices, including a single device with a speed-up of 1."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for gain in gains:
        workload, (_, _, model) = gain.workload, gain.device_name.partition(" x ")
        alone = dataclasses.replace(workload, gpus=1)
        fields = {
            "device_name": gain.device_name,
            "direction": workload.direction,
            "mask": str(workload.mask),
            "dtype": workload.dtype,
            "mode": gain.mode,
            "setting": f"{workload.split} split over {model} | {alone.id}",
            "variant": gain.variant,
        }
        for devices, speedup in ((1, 1.0), (workload.gpus, gain.alone_ms / gain.latency_ms)):
            numbers = {"devices": devices, "speedup": _short(speedup), "efficiency": _short(speedup / devices)}
            rows.setdefault((fields["setting"], gain.variant, devices), {**fields, **numbers})
    return list(rows.values())


def _short(value: float) -> float:
    return float(f"{value:.4g}")
