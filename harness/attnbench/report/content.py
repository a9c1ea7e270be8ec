"""The content of a report: everything that the page, report.md and the LaTeX tables show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.analysis.dispatch_table import DispatchGain, dispatch_gains
from attnbench.analysis.ranking import Contest, contests
from attnbench.analysis.results import Results
from attnbench.report import tables
from attnbench.report.derived_tables import Fits, derived_tables, fit, verdict_tables
from attnbench.report.heatmap import Heatmap, heatmaps
from attnbench.report.palette import palette

if TYPE_CHECKING:
    from attnbench.report.table import Table

MAX_LATENCY_TABLES = 40  # per kind of table (exact variants, inexact variants, verdicts); results.csv has all cells
METHOD = (
    "Every cell was checked against an fp64 reference before, during and after it was timed; a cell that failed has no"
    " latency. Latency is the median of the raw samples, with a distribution-free 95% interval. TFLOP/s counts only"
    " visible query-key pairs. Peak memory is what a call allocates on top of its inputs. A variant ties with the"
    " fastest one of a shape if it can't be shown to be slower in the rounds that both were timed in; the test is"
    " corrected for the number of comparisons, and takes into account how much processes that run the same code differ."
    " Variants that can't be compared in this way, because they were timed in different runs, not in turns or in a"
    " single process, tie if their intervals overlap. A cell is disturbed if others had the cores in most of its"
    " blocks. It has a time but no verdict, so it ties with the fastest."
)


@dataclass(frozen=True)
class Content:
    """The parts of a report, independent of the output format."""

    title: str
    summary: str
    warnings: tuple[str, ...]
    results: Results
    contests: tuple[Contest, ...]
    gains: Mapping[str, DispatchGain]
    heatmaps: tuple[Heatmap, ...]
    headline: tuple[Table, ...]
    latencies: tuple[Table, ...]
    fits: Fits
    fitted: tuple[Table, ...]
    inexact: tuple[Table, ...]
    failures: Table
    method: tuple[Table, ...]
    provenance: Table


def read(runs: str | Path | Sequence[str | Path], baseline: str | None = None) -> Content:
    """Read runs, and return the content of their report.

    Raises UsageError if there is no run or if no run contains the baseline.
    """
    results = Results.load(runs, baseline)
    ranked, fits = contests(results), fit(results)
    return Content(
        title=_title(results),
        summary=_summary(results),
        warnings=tuple(results.warnings),
        results=results,
        contests=tuple(ranked),
        gains={} if results.baseline is None else dispatch_gains(results, results.baseline),
        heatmaps=tuple(heatmaps(results, palette(results.frame["variant"]))),
        headline=tuple(tables.standings(results, ranked)),
        latencies=(*tables.latencies(results, MAX_LATENCY_TABLES), *verdict_tables(results, MAX_LATENCY_TABLES)),
        fits=fits,
        fitted=tuple(derived_tables(fits)),
        inexact=tuple(tables.inexact(results, MAX_LATENCY_TABLES)),
        failures=tables.failures(results),
        method=tuple(tables.method(results)),
        provenance=tables.provenance(results.manifests),
    )


def _title(results: Results) -> str:
    devices = sorted(results.frame["device_name"].unique())
    return f"Attention on {' and '.join(devices)}" if 0 < len(devices) < 4 else "Attention benchmark"


def _summary(results: Results) -> str:
    cells = results.current[~results.current["control"]]
    counts = cells["status"].value_counts()
    devices = ", ".join(sorted(cells["device_name"].unique()))
    statuses = ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in counts.items())
    return (
        f"{cells['variant'].nunique()} variants on {cells['workload_id'].nunique()} workloads, {devices}: "
        f"{len(cells)} cells, {statuses}."
    )
