"""Output that several commands share: tables, the plan of a dry run, and the summary of a run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench.plan.memory_frontier import least_bytes
from attnbench.progress import Level, Progress, announcement, progress
from attnbench.untrusted import printable

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.history import History, TimeEstimate
    from attnbench.record import Record
    from attnbench.report.table import Table as ReportTable
    from attnbench.runner.scheduler import RunSummary


PIPED_WIDTH = 400  # width, in characters, of `print_rows` tables if the output is not a terminal
SHOWN_PHASE_S = 0.0005  # phases that took less than this per cell, in seconds, are not shown
PIPED_REPORT_WIDTH = 200  # width, in characters, of report tables if the output is not a terminal


@contextmanager
def output_may_be_closed() -> Iterator[None]:
    """Go on after the context if its output can't be written, e.g. because a terminal or a pipe was closed.

    All further output is discarded. The exit code then still says how the command ended.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def new_table(*columns: str) -> Table:
    """Return an empty table with these column headings, in the style that all commands share."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table whose column headings are the rows' keys, or print `none` if there are no rows."""
    if not rows:
        print("none")
        return
    table = new_table(*rows[0])
    for row in rows:
        table.add_row(*(Text(_text(value)) for value in row.values()))
    _console(PIPED_WIDTH).print(table)


def print_table(table: ReportTable) -> None:
    """Print a table of a report.

    In each row, the best value is bold and values tied with it are italic. Notes are printed below the table.
    """
    shown = Table(
        title=Text(printable(table.title)) if table.title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(table.columns):
        shown.add_column(Text(printable(column)), justify="left" if index < table.labels else "right", overflow="fold")
    for row in table.rows:
        styles = ["bold" if cell.best else "italic" if cell.tied else "" for cell in row]
        shown.add_row(*(Text(printable(cell.text), style=style) for cell, style in zip(row, styles, strict=True)))
    console = _console(PIPED_REPORT_WIDTH)
    console.print(shown)
    for note in table.notes:
        console.print(Text(printable(note), style="dim"))


def _console(piped_width: int) -> Console:
    """Return a console as wide as the terminal, or `piped_width` columns wide if the output is not a terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else piped_width)


def _text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return printable(text)


NEXT_STEPS = {  # key: status of a failed cell; value: the suggested next step
    "incorrect": "attnbench check {variant}{plugins} shows which rule the variant breaks and the likely bug",
    "error": "attnbench explain {cell} shows the log with the traceback, and the command that runs the cell again",
    "crash": "attnbench explain {cell} shows the log, and the command that runs the cell again",
    "timeout": "--timeout SECONDS sets a longer limit; attnbench explain {cell} shows the log and where the cell hung",
    "out_of_memory": "try a smaller --batch or --seq; attnbench report shows what still fits",
}


@contextmanager
def watched(
    plan: Plan, unsupported: Mapping[str, str], estimate: TimeEstimate, level: Level = "normal"
) -> Iterator[Progress]:
    """Announce a run with its estimated duration, and show its progress until the `with` block ends."""
    with progress(plan, level) as shown:
        shown.announce(unsupported, estimate)
        yield shown


def print_plan(plan: Plan, unsupported: Mapping[str, str], history: History) -> None:
    """Print each cell of the plan with its estimated memory and time, or the reason why it is unsupported."""
    for cell in plan.cells:
        reason = unsupported.get(cell.cell_id)
        ending = f"unsupported: {printable(reason)}" if reason else _expectation(history, cell)
        print(f"{cell.cell_id}  {cell.device.name}  {cell.variant.name}  {cell.workload.id}  {ending}")
    known = sum(history.seconds(cell) is not None for cell in plan.cells if cell.cell_id not in unsupported)
    print(announcement(len(plan.cells), len(unsupported), history.estimate(plan, unsupported).total_s), end="")
    print(f" ({known} of these cells have been timed here before)")
    if plan.frontier:
        print("then the largest length that fits in memory is determined for each variant, which takes additional time")


def print_summary(folder: Path, summary: RunSummary, estimate: TimeEstimate) -> None:
    """Print the number of cells with each status, and how the time of the run was spent.

    The duration is followed by its estimate, the share of it that was spent on sampling, and the seconds of each phase.
    """
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    counts = counts or "no cells to run"
    for refusal in summary.refusals:
        print(f"not used: {printable(refusal)}")
    print(
        f"{counts} in {summary.wall_s:.1f} s (estimated: {estimate.total_s:.1f} s), {summary.useful_share:.0%} of it "
        f"sampling{_phases(summary)}\nrecords: {folder}\nreport:  attnbench report {folder}"
    )


def _phases(summary: RunSummary) -> str:
    """Return a line with the mean seconds that each phase took per cell, or an empty string if no cell was timed."""
    cells = summary.statuses["ok"]
    spent = [(phase, seconds / cells) for phase, seconds in summary.phase_s.items()] if cells else []
    shown = ", ".join(
        f"{phase.replace('_', ' ')} {seconds:.3f}" for phase, seconds in spent if seconds >= SHOWN_PHASE_S
    )
    return f"\nseconds per timed cell: {shown}" if shown else ""


def print_next(records: Iterable[Record], plugins: Iterable[str]) -> None:
    """Print the next step for each variant and kind of failure.

    `plugins` are the `--plugin` values with which the run was started. The printed commands repeat them.
    """
    named = "".join(f" --plugin {shlex.quote(plugin)}" for plugin in plugins)
    failed: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.status in NEXT_STEPS:
            failed.setdefault((record.variant, record.status), record)
    for (variant, status), record in failed.items():
        step = NEXT_STEPS[status].format(variant=variant, plugins=named, cell=record.cell_id)
        print(f"next, for {variant} ({status}): {step}")


def print_warnings(warnings: Iterable[str]) -> None:
    """Print a line for each warning about the results."""
    for warning in warnings:
        print(f"warning: {printable(warning)}")


def _expectation(history: History, cell: Cell) -> str:
    known, device = history.memory_bytes(cell), cell.device.memory_bytes
    expected = least_bytes(cell.workload) if known is None else known
    text = f"{'at least ' if known is None else ''}{expected / 2**20:.1f} MiB"
    if (seconds := history.seconds(cell)) is not None:
        text += f", about {seconds:.1f} s"
    if device is not None and expected > device:
        text += f"; will not fit: the device has {device / 2**20:.0f} MiB"
    elif (met := history.too_large(cell)) is not None:
        text += f"; will not fit: {'this workload' if met == cell.workload else met.id} ran out of memory before"
    return text
