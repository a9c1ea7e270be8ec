"""What a report says, gathered once for all the forms in which it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.analysis.frame import baseline_of, current, find_runs, load, with_speedup
from attnbench.errors import unknown
from attnbench.report import tables
from attnbench.store import read_manifest

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.report.table import Table

LATENCY_TABLES = 40  # in the prose report; all cells are in results.csv


@dataclass(frozen=True)
class Document:
    """The content of a report, free of any format."""

    frame: pd.DataFrame
    manifests: tuple[dict[str, Any], ...]
    baseline: str | None
    summary: str
    headline: tuple[Table, ...]
    latencies: tuple[Table, ...]
    inexact: tuple[Table, ...]
    failures: Table
    provenance: Table


def read(runs: str | Path | Sequence[str | Path], baseline: str | None = None) -> Document:
    """Gather a report's content from runs; raises UsageError for no run and for a baseline that is in none."""
    frame = load(runs)
    return gather(frame, tuple(read_manifest(run) for run in find_runs(runs)), baseline)


def gather(frame: pd.DataFrame, manifests: tuple[dict[str, Any], ...], baseline: str | None = None) -> Document:
    """Gather a report's content from a frame that `load` gave."""
    if baseline is not None and baseline not in set(frame["variant"]):
        raise unknown("baseline", baseline, frame["variant"].unique())
    baseline = baseline or baseline_of(frame)
    frame = with_speedup(frame, baseline)
    return Document(
        frame=frame,
        manifests=manifests,
        baseline=baseline,
        summary=_summary(frame),
        headline=tuple(tables.headline(frame, baseline)),
        latencies=tuple(tables.latencies(frame, LATENCY_TABLES)),
        inexact=tuple(tables.inexact(frame)),
        failures=tables.failures(frame),
        provenance=tables.provenance(manifests),
    )


def _summary(frame: pd.DataFrame) -> str:
    cells = current(frame)
    cells = cells[~cells["control"]]
    counts = cells["status"].value_counts()
    devices = ", ".join(sorted(cells["device_name"].unique()))
    statuses = ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in counts.items())
    return (
        f"{cells['variant'].nunique()} variants on {cells['workload_id'].nunique()} workloads, {devices}: "
        f"{len(cells)} cells, {statuses}."
    )
