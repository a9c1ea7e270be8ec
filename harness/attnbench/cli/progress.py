"""What a run shows while it works: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from attnbench.record import Record
    from attnbench.runner.plan import Cell, Plan
    from attnbench.runner.sweep import Summary

COLOURS = {"ok": "green", "unsupported": "bright_black", "interrupted": "yellow"}


class Reporter:
    """Hears of cells and records; prints to standard error what passes, to standard output what stays."""

    def __init__(self, plan: Plan, console: Console, bar: Progress | None) -> None:
        self._plan, self._console, self._bar = plan, console, bar
        self._done = 0
        self._task = bar.add_task("", total=len(plan.cells)) if bar else None

    def started(self, cell: Cell) -> None:
        """Name the cell that starts."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"{cell.variant.name} {cell.workload.id}")

    def stored(self, record: Record) -> None:
        """Tell of a cell that ended."""
        if record.control:
            return
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        if self._bar is None or record.status not in ("ok", "unsupported"):
            self._console.print(self._line(record), soft_wrap=True)

    def print_plan(self, unsupported: Mapping[str, str]) -> None:
        """Print every cell of the plan, with the reason where it will be unsupported."""
        for cell in self._plan.cells:
            reason = unsupported.get(cell.cell_id)
            ending = f"  unsupported: {_printable(reason)}" if reason else ""
            print(f"{cell.cell_id}  {cell.device.name}  {cell.variant.name}  {cell.workload.id}{ending}")
        print(f"{len(self._plan.cells)} cells, {len(unsupported)} of them unsupported")

    def print_summary(self, folder: Path, summary: Summary) -> None:
        """Say what the run came to, and what to type next."""
        counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
        print(
            f"{counts} in {summary.wall_s:.1f} s, {summary.useful_share:.0%} of it in the timed callable, "
            f"warm-up or conformance\nrecords: {folder}\nreport:  attnbench report {folder}"
        )

    def _line(self, record: Record) -> Text:
        what = f"[{self._done}/{len(self._plan.cells)}] {record.device} {record.variant} {record.workload.id}: "
        text = Text(what).append(record.status, style=COLOURS.get(record.status, "red"))
        samples = record.samples_ns or record.cold_samples_ns
        if samples:
            text.append(f" {statistics.median(samples) / 1e6:.3f} ms")
        if record.reason:
            text.append(f": {_printable(record.reason)}")
        return text


@contextmanager
def reporter(plan: Plan) -> Iterator[Reporter]:
    """Make a reporter fit for where standard error goes."""
    console = Console(stderr=True, highlight=False)
    if not sys.stderr.isatty():
        yield Reporter(plan, Console(stderr=True, highlight=False, width=10_000), None)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        yield Reporter(plan, console, bar)


def table(*columns: str) -> Table:
    """Make a table in the house's style."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _printable(text: str) -> str:
    """Keep terminal escapes of others out of the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
