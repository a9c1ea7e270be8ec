"""What was fitted, as rows for the page's charts: each has the fields that the page filters by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.analysis.scaling_out import Gain
    from attnbench.analysis.series import Series
    from attnbench.report.derived_tables import Fits

MOST = 4_000  # rows a chart
ENDS = ["out of memory beyond", "all that were tried fit", "failed otherwise beyond"]


def fitted(fits: Fits, *, several: bool) -> dict[str, list[dict[str, Any]]]:
    """Give the rows by chart; `several` says that devices are to be named."""
    found = {
        "exponents": [
            {
                **_place(one.series, several=several), "variant": one.variant, "exponent": _short(one.exponent),
                "low": _short(one.low), "high": _short(one.high),
            }
            for one in fits.exponents
        ],
        "crossovers": [
            {
                **_place(one.series, several=several), "before": one.before, "after": one.after,
                "pair": f"{one.after} over {one.before}", "length": round(one.length), "low": round(one.low),
                "high": round(one.high),
            }
            for one in fits.crossovers
        ],
        "reaches": [
            {
                **_place(one.series, several=several, batch=False), "variant": one.variant, "batch": one.series.batch,
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


def _place(one: Series, *, several: bool, batch: bool = True) -> dict[str, Any]:
    filters = {
        "device_name": one.device_name,
        "direction": one.direction,
        "mask": one.mask,
        "dtype": one.dtype,
        "mode": one.mode,
    }
    return {**filters, "setting": heading(one, several=several, batch=batch)}


def _scalings(gains: Iterable[Gain]) -> list[dict[str, Any]]:
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
