"""Runs from Python: in a notebook, or in a program of one's own."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.store import find_run, statuses

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.plan.catalog import Catalog
    from attnbench.plan.cells import Plan
    from attnbench.report.table import Table
    from attnbench.workloads.workload import Workload

Texts = str | Iterable[str]
Values = int | float | str | bool | Iterable[int | float | str | bool]


class Run(os.PathLike[str]):
    """A run on disk: `attnbench.run` returns it, and `Run(path)` opens one that is there already.

    `path` is its folder. In a notebook it shows its headline tables. Raises UsageError where there is no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_run(Path(), str(path))

    def __fspath__(self) -> str:
        """Give the folder, so that a run can stand wherever a path can."""
        return str(self.path)

    @property
    def statuses(self) -> Counter[str]:
        """How many cells there are of each status, by their latest records."""
        return Counter(statuses(self.path))

    @property
    def records(self) -> pd.DataFrame:
        """One row a record, as `attnbench.load` gives it."""
        from attnbench.analysis import load

        return load(self.path)

    def resume(self, *, retry_failed: bool = False, timeout_s: float | None = None, progress: bool = True) -> Run:
        """Run what is missing, interrupted or stale, and with `retry_failed` what failed; gives the run itself."""
        from attnbench.runner.resume import resumed

        _execute(self.path, *resumed(self.path, retry_failed=retry_failed), timeout_s, progress=progress)
        return self

    def report(self, out: str | Path | None = None, *, baseline: str | None = None) -> Path:
        """Write the report, by default into the run's folder, and give the page's path.

        `baseline` is the variant that speed-ups are over. Raises UsageError for one that is not in the run.
        """
        from attnbench.report import write_report

        return write_report([self.path], Path(out) if out else self.path / "report", baseline)[0]

    def __repr__(self) -> str:
        """Say where it is and what it came to."""
        return f"Run({str(self.path)!r}): {self._counts()}"

    def _repr_html_(self) -> str:
        """Show the headline tables, best values bold and those that share the place in italics."""
        from attnbench.report import headline

        records = self.records
        parts = [f"<p><b>{html.escape(self.path.name)}</b>: {html.escape(self._counts())}</p>"]
        parts += [_table(table) for table in headline(records)] if len(records) else []
        parts.append(f"<p><small>records: {html.escape(str(self.path))}</small></p>")
        return "".join(parts)

    def _counts(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())) or "no cell yet"


def run(
    variants: Texts = (),
    *,
    suites: Texts = (),
    workloads: Iterable[Workload | str] = (),
    devices: Texts = (),
    plugins: Texts = (),
    precision: float | None = None,
    budget_s: float | None = None,
    timeout_s: float | None = None,
    results: str | Path = "results",
    name: str | None = None,
    baseline: str | None = None,
    progress: bool = True,
    **axes: Values,
) -> Run:
    """Check, time and record every cell, as `attnbench run` does, and give the run.

    Variants, suites, devices and plugins are given by name, as a list or comma-separated; variants may be globs, suites
    and plugins paths. `workloads` are Workloads or their ids. An axis (`batch`, `heads`, `kv_heads`, `seq`, `seq_q`,
    `seq_k`, `head_dim`, `head_dim_v`, `dtype`, `mask`, `direction`, `scale`, `softcap`, `alibi`, `dropout`) is a value
    or a list of values. What is left out is what `attnbench run` would take. `precision` is the relative half-width of
    the median's interval that ends sampling, `budget_s` the seconds of sampling a cell, `timeout_s` the seconds that
    any phase of a cell may last. `baseline` is the variant that the others are compared with.

    Variants run in processes of their own, so that none of them can end this one. Interrupting keeps what is measured:
    `Run(path).resume()` goes on. Raises UsageError for a value that is wrong, before anything runs.
    """
    from attnbench.measure_config import MeasureConfig
    from attnbench.runner.request import Request, plan_of
    from attnbench.runner.run import start

    request = Request(
        suites=_texts(suites),
        workloads=[workload if isinstance(workload, str) else workload.id for workload in workloads],
        variants=_texts(variants),
        devices=_texts(devices),
        plugins=_texts(plugins),
        axes={axis: _values(value) for axis, value in axes.items()},
        protocol=MeasureConfig(precision=precision),
        budget_s=budget_s,
        results=Path(results),
        name=name,
        baseline=baseline,
    )
    catalog, plan = plan_of(request)
    folder = start(request, catalog, plan)
    _execute(folder, catalog, plan, timeout_s, progress=progress)
    return Run(folder)


def _execute(folder: Path, catalog: Catalog, plan: Plan, timeout_s: float | None, *, progress: bool) -> None:
    from attnbench.plan.history import estimated_seconds
    from attnbench.plan.support import unsupported_reasons
    from attnbench.progress import progress as watch
    from attnbench.runner.limits import CellLimits
    from attnbench.runner.run import execute

    with watch(plan, "normal" if progress else "quiet") as watching:
        if progress:
            unsupported = unsupported_reasons(plan)
            watching.announce(unsupported, estimated_seconds(plan, unsupported))
        execute(folder, catalog, plan, limits=CellLimits(timeout_s=timeout_s), listener=watching)


def _texts(given: Texts) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]


def _values(given: Values) -> list[Any]:
    return [given] if isinstance(given, (str, int, float)) else list(given)


def _table(table: Table) -> str:
    """Write a report's table as HTML that a notebook styles itself."""
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
