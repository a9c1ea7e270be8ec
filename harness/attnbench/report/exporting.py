"""Export results in the formats of other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.analysis.digest import DISTURBED_BLOCKS
from attnbench.analysis.ranking import contests
from attnbench.analysis.results import Results
from attnbench.errors import UsageError, unknown
from attnbench.record import BLOCK_FIELDS
from attnbench.report import tables
from attnbench.report.table import Table, to_latex, to_markdown
from attnbench.workloads.workload import AXES

if TYPE_CHECKING:
    import pandas as pd

SHAPE = tuple(name for name, axis in AXES.items() if not axis.surrounds and name not in ("seq_q", "seq_k"))
RAW = ("samples_ns", "cold_samples_ns", *BLOCK_FIELDS, DISTURBED_BLOCKS)
NESTED = (*RAW, "kernels", "error", "telemetry", "flags")


def export(frame: pd.DataFrame, path: Path, kind: str) -> Path:
    """Write a frame from `attnbench.load` to `path` in the format `kind`, which is one of FORMATS, and return the path.

    Raises UsageError if the format is unknown or the file can't be written.
    """
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        FORMATS[kind](frame, path)
    except OSError as error:
        raise UsageError(f"{str(path)!r} can't be written: {error.strerror or error}") from None
    return path


def flat(frame: pd.DataFrame, *, raw: bool = False) -> pd.DataFrame:
    """Return the frame with nested values as JSON text. Raw samples and blocks are left out unless `raw` is true."""
    kept = frame if raw else frame.drop(columns=list(RAW))
    as_text = {name: kept[name].map(_json) for name in NESTED if name in kept}
    return kept.assign(**as_text).drop(columns="workload")


def _json(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - only NaN differs from itself
        return None
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=_simple)


def _simple(value: Any) -> Any:
    """Convert a mapping to a dict, or a sequence to a list, so that `json` can encode it."""
    return dict(value) if isinstance(value, Mapping) else list(value)


def _csv(frame: pd.DataFrame, path: Path) -> None:
    flat(frame).to_csv(path, index=False, lineterminator="\n")


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    flat(frame, raw=True).to_parquet(path, index=False)


def _tables(frame: pd.DataFrame) -> list[Table]:
    results = Results(frame)
    ranked = tables.standings(results, contests(results))
    return [*ranked, *tables.latencies(results), *tables.inexact(results)]


def _markdown(frame: pd.DataFrame, path: Path) -> None:
    path.write_text("\n".join(to_markdown(table) for table in _tables(frame)), encoding="utf-8")


def _latex(frame: pd.DataFrame, path: Path) -> None:
    path.write_text("\n".join(to_latex(table) for table in _tables(frame)), encoding="utf-8")


def _pytest_benchmark(frame: pd.DataFrame, path: Path) -> None:
    timed = Results(frame).current
    timed = timed[(timed["status"] == "ok") & ~timed["control"]]
    content = {
        "machine_info": _machine_info(timed),
        "commit_info": {"id": "unknown", "dirty": False, "branch": None, "project": "attnbench", "time": None},
        "benchmarks": [_benchmark(cell) for _, cell in timed.iterrows()],
        "datetime": str(timed["started_at"].max()) if len(timed) else None,
        "version": "5.0.0",
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _machine_info(timed: pd.DataFrame) -> dict[str, Any]:
    devices = sorted(timed["device_name"].unique())
    return {
        "node": ", ".join(devices),
        "machine": ", ".join(devices),
        "system": "",
        "cpu": {"brand_raw": devices[0] if devices else ""},
    }


def _benchmark(cell: pd.Series) -> dict[str, Any]:
    samples = [float(ns) / 1e9 for ns in cell["samples_ns"] or cell["cold_samples_ns"]]
    names = ("variant", *SHAPE, "device_name", "mode", "run")
    params = {name: _plain(cell[name]) for name in names}
    params["seq"] = f"{cell['seq_q']}" if cell["seq_q"] == cell["seq_k"] else f"{cell['seq_q']}x{cell['seq_k']}"
    identity = f"{cell['variant']}-{cell['workload_id']}-{cell['device_name']}-{cell['mode']}-{cell['run']}"
    return {
        "group": None,
        "name": f"attention[{identity}]",
        "fullname": f"attnbench::attention[{identity}]",
        "params": params,
        "param": identity,
        "extra_info": {name: _plain(cell[name]) for name in ("cell_id", "device", "tflops", "gbps", "peak_bytes")},
        "options": {
            "disable_gc": False,
            "timer": "attnbench",
            "min_rounds": 1,
            "max_time": 0.0,
            "min_time": 0.0,
            "warmup": True,
        },
        "stats": _stats(samples),
    }


def _stats(samples: list[float]) -> dict[str, Any]:
    """Return pytest-benchmark's statistics of samples in seconds, together with the samples themselves as `data`.

    Raises UsageError if pytest-benchmark is not installed.
    """
    try:
        stats = import_module("pytest_benchmark.stats").Stats()
    except ImportError:
        raise UsageError(
            "format pytest-benchmark needs the package pytest-benchmark (pip install 'attnbench[pytest]')"
        ) from None
    for sample in samples:
        stats.update(sample)
    return {**stats.as_dict(), "iterations": 1, "data": samples}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else value  # noqa: PLR0124 - only NaN differs from itself


FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "markdown": _markdown,
    "latex": _latex,
    "pytest-benchmark": _pytest_benchmark,
}
