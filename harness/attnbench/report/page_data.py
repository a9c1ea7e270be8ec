"""What the page's script works on: all cells, column by column, with repeated texts said once."""

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

    from attnbench.analysis.results import Results
    from attnbench.analysis.scaling_out import ParallelGain
    from attnbench.report.content import Content
    from attnbench.report.derived_tables import Fits

DETAILED = 20_000  # cells; past that, histograms, logs and commands stay in the run's folder
BINS = 16
LOG_END = 1_500  # characters
LOGS = 300_000  # characters of all logs together
MOST = 4_000  # rows of a fitted chart
ENDS = ["out of memory beyond", "all that were tried fit", "failed otherwise beyond"]
TEXTS = (
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
NUMBERS = {
    "latency_ms": 5, "latency_low_ms": 5, "latency_high_ms": 5, "tflops": 4, "gbps": 4, "peak_bytes": 12,
    "saved_bytes": 12, "first_call_ns": 4, "error_ratio": 3, "error_max_abs": 3, "samples": 8, "roofline_pct": 4,
    "energy_mj": 4,
}  # fmt: skip


class Texts:
    """Numbers texts in the order in which they come; None stays None."""

    def __init__(self) -> None:
        self._places: dict[Hashable, int] = {}

    def place(self, text: Any) -> int | None:
        """Give the number of a text."""
        if text is None or text != text:  # noqa: PLR0124 - NaN is what differs from itself
            return None
        return self._places.setdefault(text, len(self._places))

    @property
    def all(self) -> list[Any]:
        """All texts, each at the place of its number."""
        return list(self._places)


def payload(document: Content) -> dict[str, Any]:
    """Give the page's data as JSON values: `cells` by column, with indices into lists of texts and workloads."""
    results = document.results
    frame = with_length(results.current[~results.current["control"]]).reset_index(drop=True)
    detailed = len(frame) <= DETAILED
    columns, lists = _texts(frame)
    for name, digits in NUMBERS.items():
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
        lists["log"], columns["log"] = _logs(frame, results.runs)
        columns["rerun"] = _commands(frame, results)
    styles = palette(results.frame["variant"])
    return {
        "baseline": results.baseline,
        "lists": lists,
        "styles": {name: {"colour": style.colour, "dash": style.dash} for name, style in styles.items()},
        "settings": settings,
        "contests": contests,
        "fits": fitted(document.fits, several=several),
        "workloads": workloads,
        "detailed": detailed,
        "cells": columns,
    }


def packed(value: Mapping[str, Any]) -> str:
    """Pack JSON for embedding: gzip in base64, which no text in it can break out of."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _commands(frame: pd.DataFrame, results: Results) -> list[str]:
    """Return for each cell the command that runs it again."""
    return [
        shlex.join(rerun_command(variant, workload, device, results.manifests.get(run, {})))
        for run, variant, workload, device in zip(
            frame["run"], frame["variant"], frame["workload"], frame["device"], strict=True
        )
    ]


def _texts(frame: pd.DataFrame) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    columns, lists = {}, {}
    for name in TEXTS:
        texts = Texts()
        columns[name] = [texts.place(text) for text in frame[name]]
        lists[name] = texts.all
    for name in ("kernels", "flags"):
        texts = Texts()
        columns[name] = [texts.place(", ".join(value)) if value else None for value in frame[name]]
        lists[name] = texts.all
    return columns, lists


def _rounded(values: pd.Series, digits: int) -> list[float | None]:
    return [None if value != value else float(f"{value:.{digits}g}") for value in values.tolist()]  # noqa: PLR0124


def _settings(frame: pd.DataFrame, *, several: bool) -> tuple[list[str], list[str], list[int]]:
    """Name the series that cells are of, with and without the device, and give each cell's place among them."""
    places = np.zeros(len(frame), dtype=int)
    names = Texts()
    contests: list[str] = []
    for one in series(frame):
        places[one.frame.index] = place = names.place(heading(one, several=several)) or 0
        if place == len(contests):
            contests.append(heading(one, several=False))
    return names.all, contests, places.tolist()


def _workloads(frame: pd.DataFrame) -> tuple[list[dict[str, Any]], list[int]]:
    texts = Texts()
    places = [texts.place(name) or 0 for name in frame["workload_id"]]
    first = frame.drop_duplicates("workload_id")
    rows = []
    for cell in first.to_dict("records"):
        shape = {name: None if cell[name] != cell[name] else cell[name] for name in AXES}
        rows.append({"id": cell["workload_id"], **shape, "length": cell["length"]})
    return rows, places


def _histogram(samples: tuple[float, ...]) -> list[Any] | None:
    """Count samples in bins of equal width: smallest and largest in ms, then the counts."""
    if not samples:
        return None
    counts, _ = np.histogram(samples, BINS)
    return [float(f"{min(samples) / 1e6:.5g}"), float(f"{max(samples) / 1e6:.5g}"), *counts.tolist()]


def _logs(frame: pd.DataFrame, runs: Mapping[str, Path]) -> tuple[list[str], list[int | None]]:
    texts, taken, places = Texts(), 0, []
    for run, log, status in zip(frame["run"], frame["log"], frame["status"], strict=True):
        wanted = isinstance(log, str) and status not in ("ok", "unsupported") and taken < LOGS
        text = log_end(runs[run], log) if wanted else None
        taken += len(text or "")
        places.append(texts.place(text))
    return texts.all, places


def log_end(run: Path, log: str) -> str | None:
    """Read the end of a cell's log; None where there is none, or where the path leads out of the run's folder."""
    path = (run / log).resolve()
    if not path.is_relative_to(run.resolve()) or not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_END))
        return file.read(LOG_END).decode("utf-8", "replace")


def fitted(fits: Fits, *, several: bool) -> dict[str, list[dict[str, Any]]]:
    """Give the rows by chart; `several` says that devices are to be named."""
    found = {
        "exponents": [
            {
                **_filters(one.series, several=several), "variant": one.variant, "exponent": _short(one.exponent),
                "low": _short(one.low), "high": _short(one.high),
            }
            for one in fits.exponents
        ],
        "crossovers": [
            {
                **_filters(one.series, several=several), "before": one.before, "after": one.after,
                "pair": f"{one.after} over {one.before}", "length": round(one.length), "low": round(one.low),
                "high": round(one.high),
            }
            for one in fits.crossovers
        ],
        "reaches": [
            {
                **_filters(one.series, several=several, batch=False), "variant": one.variant, "batch": one.series.batch,
                "largest": one.largest_ok, "out": one.smallest_out,
                "end": ENDS[0] if one.smallest_out is not None else ENDS[1] if one.all_fit else ENDS[2],
            }
            for one in fits.reaches
            if one.largest_ok is not None and one.series.batch is not None
        ],
        "scalings": _scalings(fits.gains),
    }  # fmt: skip
    return {name: rows[:MOST] for name, rows in found.items()}


def heading(one: Series, *, several: bool, batch: bool = True) -> str:
    """Name a series in the two lines of a chart's head; the bar between them is where it breaks."""
    *what, shape = one.title.split(" · ")
    shape = shape if batch else shape.partition(" ")[2]
    return f"{' · '.join(what)} | {f'{one.device_name} · ' if several else ''}{shape}"


def _filters(one: Series, *, several: bool, batch: bool = True) -> dict[str, Any]:
    fields = {
        "device_name": one.device_name,
        "direction": one.direction,
        "mask": one.mask,
        "dtype": one.dtype,
        "mode": one.mode,
    }
    return {**fields, "setting": heading(one, several=several, batch=batch)}


def _scalings(gains: Iterable[ParallelGain]) -> list[dict[str, Any]]:
    """Give a point for each number of devices, and one for the single device that they are held against."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in gains:
        w, (_, _, model) = one.workload, one.device_name.partition(" x ")
        alone = dataclasses.replace(w, gpus=1)
        place = {
            "device_name": one.device_name, "direction": w.direction, "mask": str(w.mask), "dtype": w.dtype,
            "mode": one.mode, "setting": f"{w.split} split over {model} | {alone.id}", "variant": one.variant,
        }  # fmt: skip
        for devices, speedup in ((1, 1.0), (w.gpus, one.alone_ms / one.latency_ms)):
            numbers = {"devices": devices, "speedup": _short(speedup), "efficiency": _short(speedup / devices)}
            rows.setdefault((place["setting"], one.variant, devices), {**place, **numbers})
    return list(rows.values())


def _short(value: float) -> float:
    return float(f"{value:.4g}")
