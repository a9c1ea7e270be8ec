"""What a report says, gathered once for all the forms in which it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.analysis.dispatch_table import Gain, gain
from attnbench.analysis.load_runs import baseline_of, current, find_runs, load, with_speedup
from attnbench.analysis.ranking import Group, groups
from attnbench.analysis.verdict import with_leaders
from attnbench.errors import unknown
from attnbench.report import tables
from attnbench.report.derived_tables import Fits, fit
from attnbench.report.derived_tables import tables as fit_tables
from attnbench.report.heatmap import Heatmap, heatmaps
from attnbench.report.palette import palette
from attnbench.report.verdicts import verdicts
from attnbench.store import read_manifest

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.report.table import Table

LATENCY_TABLES = 40  # in the prose report; all cells are in results.csv
DISPATCHER = "sdpa"  # what following the dispatch table is compared with


@dataclass(frozen=True)
class Document:
    """The content of a report, free of any format."""

    title: str
    summary: str
    frame: pd.DataFrame
    runs: Mapping[str, Path]
    baseline: str | None
    groups: tuple[Group, ...]
    gains: Mapping[str, Gain]
    heatmaps: tuple[Heatmap, ...]
    headline: tuple[Table, ...]
    latencies: tuple[Table, ...]
    fits: Fits
    fitted: tuple[Table, ...]
    inexact: tuple[Table, ...]
    failures: Table
    method: tuple[Table, ...]
    provenance: Table


def read(runs: str | Path | Sequence[str | Path], baseline: str | None = None) -> Document:
    """Gather a report's content from runs; raises UsageError for no run and for a baseline that is in none."""
    folders = find_runs(runs)
    frame = load(folders)
    if baseline is not None and baseline not in set(frame["variant"]):
        raise unknown("baseline", baseline, frame["variant"].unique())
    baseline = baseline or baseline_of(frame)
    frame = with_leaders(with_speedup(frame, baseline))
    manifests = [read_manifest(folder) for folder in folders]
    ranked, found = groups(frame, baseline), fit(frame)
    return Document(
        title=_title(frame),
        summary=_summary(frame),
        frame=frame,
        runs={folder.name: folder for folder in folders},
        baseline=baseline,
        groups=tuple(ranked),
        gains=gain(frame, DISPATCHER),
        heatmaps=tuple(heatmaps(frame, palette(frame["variant"]))),
        headline=tuple(tables.standings(frame, ranked, baseline)),
        latencies=(*tables.latencies(frame, LATENCY_TABLES), *verdicts(frame, baseline, LATENCY_TABLES)),
        fits=found,
        fitted=tuple(fit_tables(found)),
        inexact=tuple(tables.inexact(frame, LATENCY_TABLES)),
        failures=tables.failures(frame),
        method=tuple(tables.method(frame, manifests)),
        provenance=tables.provenance(manifests),
    )


def _title(frame: pd.DataFrame) -> str:
    devices = sorted(frame["device_name"].unique())
    return f"Attention on {' and '.join(devices)}" if 0 < len(devices) < 4 else "Attention benchmark"


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
