"""Start and open runs from Python, in a notebook or a program."""

from __future__ import annotations

import html
import os
import signal
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.store import find_run, load_warnings, statuses

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.plan.catalog import Catalog
    from attnbench.plan.cells import Plan
    from attnbench.report.table import Table
    from attnbench.workloads.workload import Workload

Names = str | Iterable[str]
Values = int | float | str | bool | Iterable[int | float | str | bool]


class Run(os.PathLike[str]):
    """A run on disk: `attnbench.run` returns a new one, and `Run(path)` opens an existing one.

    `path` is the run's folder. A notebook displays a run as its headline tables. Raises UsageError if there is no run
    at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_run(Path(), str(path))

    def __fspath__(self) -> str:
        """Return the path of the run's folder, so that a Run can be passed wherever a path is expected."""
        return str(self.path)

    @property
    def statuses(self) -> Counter[str]:
        """The number of cells with each status, according to the latest record of each cell."""
        return Counter(statuses(self.path))

    @property
    def records(self) -> pd.DataFrame:
        """The run's records as a pandas DataFrame with one row per record; see `attnbench.load`."""
        from attnbench.analysis import load

        return load(self.path)

    @property
    def warnings(self) -> list[str]:
        """Sentences that say why cells have no verdict, because others had the cores. The list is usually empty."""
        return load_warnings(self.path)

    def resume(self, *, retry_failed: bool = False, timeout_s: float | None = None, progress: bool = True) -> Run:
        """Run the cells that are missing, were interrupted or are stale, and return this run.

        If `retry_failed` is true, failed cells are run again, too. `timeout_s` is the time limit of each phase of a
        cell, in seconds.
        """
        from attnbench.runner.resume import resumed

        _execute(self.path, *resumed(self.path, retry_failed=retry_failed), timeout_s, progress=progress)
        return self

    def report(self, out: str | Path | None = None, *, baseline: str | None = None) -> Path:
        """Write the report to the folder `out`, and return the path of its HTML page.

        The default folder is `report` in the run's folder. `baseline` is the variant that speed-ups are relative to.
        Raises UsageError if the run does not contain the baseline.
        """
        from attnbench.report import write_report

        return write_report([self.path], Path(out) if out else self.path / "report", baseline)[0]

    def __repr__(self) -> str:
        """Return the run's path and the number of cells with each status."""
        return f"Run({str(self.path)!r}): {self._counts()}"

    def _repr_html_(self) -> str:
        """Return the headline tables as HTML, with the best values in bold and tied values in italics."""
        from attnbench.report import headline

        records = self.records
        parts = [f"<p><b>{html.escape(self.path.name)}</b>: {html.escape(self._counts())}</p>"]
        parts += [f"<p><b>warning: {html.escape(warning)}</b></p>" for warning in self.warnings]
        parts += [_table(table) for table in headline(records)] if len(records) else []
        parts.append(f"<p><small>records: {html.escape(str(self.path))}</small></p>")
        return "".join(parts)

    def _counts(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())) or "no cell yet"


def run(
    variants: Names = (),
    *,
    suites: Names = (),
    workloads: Iterable[Workload | str] = (),
    devices: Names = (),
    plugins: Names = (),
    precision: float | None = None,
    budget_s: float | None = None,
    timeout_s: float | None = None,
    results: str | Path = "results",
    name: str | None = None,
    baseline: str | None = None,
    progress: bool = True,
    **axes: Values,
) -> Run:
    """Check, time and record every cell, as `attnbench run` does, and return the run.

    Variants, suites, devices and plugins are given as a list of names or as one comma-separated string. Variants may be
    glob patterns, and suites and plugins may be paths. `workloads` are Workload objects or workload ids. Each axis
    (`batch`, `heads`, `kv_heads`, `seq`, `seq_q`, `seq_k`, `head_dim`, `head_dim_v`, `dtype`, `mask`, `direction`,
    `scale`, `softcap`, `alibi`, `dropout`) is a value or a list of values. The defaults are those of `attnbench run`.

    A cell is sampled until the confidence interval of its median has a relative half-width of at most `precision`, or
    until `budget_s` seconds have passed. `timeout_s` is the time limit of each phase of a cell, in seconds. `baseline`
    is the variant that the others are compared with.

    Each variant runs in its own process, so a crash does not end the calling process. An interrupted run keeps its
    records, and `Run(path).resume()` continues it. After SIGTERM or SIGHUP, the run is interrupted, and then the
    calling process receives the signal again. If others had the cores in most blocks of a cell, so that it has no
    verdict, a RuntimeWarning says so; `Run.warnings` has the same text. Raises UsageError before any cell runs if a
    value is invalid, or if no variant supports any of the workloads.
    """
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.unsupported import unsupported_reasons
    from attnbench.runner.request import Request, plan_of, refuse_nothing_to_time
    from attnbench.runner.run import start

    request = Request(
        suites=_names(suites),
        workloads=[workload if isinstance(workload, str) else workload.id for workload in workloads],
        variants=_names(variants),
        devices=_names(devices),
        plugins=_names(plugins),
        axes={axis: _values(value) for axis, value in axes.items()},
        protocol=MeasureConfig(precision=precision),
        budget_s=budget_s,
        results=Path(results),
        name=name,
        baseline=baseline,
    )
    catalog, plan = plan_of(request)
    refuse_nothing_to_time(plan, unsupported_reasons(plan))
    folder = start(request, catalog, plan)
    _execute(folder, catalog, plan, timeout_s, progress=progress)
    return Run(folder)


def _execute(folder: Path, catalog: Catalog, plan: Plan, timeout_s: float | None, *, progress: bool) -> None:
    from attnbench.plan.history import History
    from attnbench.plan.unsupported import unsupported_reasons
    from attnbench.progress import progress as watch
    from attnbench.runner.cell_limits import CellLimits
    from attnbench.runner.run import execute

    with watch(plan, "normal" if progress else "quiet") as watching:
        if progress:
            unsupported = unsupported_reasons(plan)
            watching.announce(unsupported, History(folder.parent).estimate(plan, unsupported))
        summary = execute(folder, catalog, plan, limits=CellLimits(timeout_s=timeout_s), listener=watching)
    for text in load_warnings(folder):
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    if summary.signal not in (None, signal.SIGINT):
        signal.raise_signal(summary.signal)  # the run has ended; now the program that called it must end, too


def _names(given: Names) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]


def _values(given: Values) -> list[Any]:
    return [given] if isinstance(given, (str, int, float)) else list(given)


def _table(table: Table) -> str:
    """Return a report's table as HTML without styles, because the notebook applies its own styles."""
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = []
    for row in table.rows:
        cells = []
        for cell in row:
            mark = "b" if cell.best else "i" if cell.tied else "span"
            cells.append(f"<td><{mark}>{html.escape(cell.text)}</{mark}></td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in table.notes)
    title = f"<caption>{html.escape(table.title)}</caption>" if table.title else ""
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{notes}"
