"""What a run shows while it works: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import html
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBar
from rich.text import Text

from attnbench.plan.memory_frontier import SEARCHED
from attnbench.runner.listener import RunListener
from attnbench.untrusted import printable

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.record import Record

Level = Literal["quiet", "normal", "verbose"]
COLOURS = {"ok": "green", "unsupported": "bright_black", "interrupted": "yellow"}
EXPECTED = ("ok", "unsupported")
UPDATE_S = 0.1  # the least time between two updates of a notebook's bar


class Progress(AbstractContextManager["Progress"], RunListener):
    """Shows how a run goes: what it will be, each cell and record. This one writes lines to standard error.

    `quiet` tells of nothing but failures, `verbose` of unsupported cells too.
    """

    def __init__(self, plan: Plan, level: Level = "normal") -> None:
        self.total, self.done, self.level = len(plan.cells), 0, level
        self.width = len(str(self.total))
        self.console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 10_000)

    def __exit__(self, *exception: object) -> None:
        """Leave what was written."""

    def announce(self, unsupported: Mapping[str, str], seconds: float) -> None:
        """Say what the run will be and about how long it takes; `unsupported` holds reasons by cell_id."""
        if self.level != "quiet":
            self.console.print(announcement(self.total, len(unsupported), seconds), soft_wrap=True)

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """Say what on this machine may spoil the times, before anybody waits for them."""
        warning = warned(manifest.get("doctor") or ())
        if warning and self.level != "quiet":
            self.console.print(Text(warning, style="yellow"), soft_wrap=True)

    def observer_failed(self, problem: str) -> None:
        """Say what an observer got wrong."""
        self.console.print(Text(printable(problem), style="red"), soft_wrap=True)

    def record_stored(self, record: Record) -> None:
        """Tell of a cell that ended."""
        if record.control:
            return
        self.done += SEARCHED not in record.flags  # how many lengths a search tries is not known before
        if self.tells(record):
            self.console.print(self.line(record), soft_wrap=True)

    def tells(self, record: Record) -> bool:
        """Whether a record is worth a line."""
        if record.status == "unsupported":
            return self.level == "verbose"
        return record.status != "ok" or self.level != "quiet"

    def line(self, record: Record) -> Text:
        """Say in one line what came of a cell."""
        what = f"[{self.done:>{self.width}}/{self.total}] {record.device} {record.variant} {record.workload.id}: "
        text = Text(what).append(record.status, style=COLOURS.get(record.status, "red"))
        samples = record.samples_ns or record.cold_samples_ns
        if samples:
            text.append(f" {statistics.median(samples) / 1e6:.3f} ms")
        if record.reason:
            text.append(f": {printable(record.reason)}")
        return text


class Bar(Progress):
    """A bar on a terminal, with the time left; failures are lines above it, and under `verbose` every cell is."""

    def __init__(self, plan: Plan, level: Level = "normal") -> None:
        super().__init__(plan, level)
        self._bar = RichBar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=self.console,
        )
        self._task = self._bar.add_task("", total=self.total)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def cell_started(self, cell: Cell) -> None:
        """Name the cell that starts beside the bar."""
        self._bar.update(self._task, description=f"{cell.variant.name} {cell.workload.id}")

    def record_stored(self, record: Record) -> None:
        """Move the bar."""
        super().record_stored(record)
        self._bar.update(self._task, completed=self.done)

    def tells(self, record: Record) -> bool:
        """Whether a record is worth a line above the bar."""
        return self.level == "verbose" or record.status not in EXPECTED


class NotebookBar(Progress):
    """A bar in a notebook's output, by IPython's display alone: no widget to install, and it stays when saved."""

    def __init__(self, plan: Plan, level: Level = "normal") -> None:
        super().__init__(plan, level)
        self._head = self._now = ""
        self._lines: list[str] = []
        self._shown: Any = None
        self._began = self._updated = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        """Show how far it came."""
        self._now = ""
        self._show(force=True)

    def announce(self, unsupported: Mapping[str, str], seconds: float) -> None:
        """Show what the run will be over the bar."""
        self._head = announcement(self.total, len(unsupported), seconds)
        self._show(force=True)

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """List under the bar what on this machine may spoil the times."""
        self._lines += [warning] if (warning := warned(manifest.get("doctor") or ())) else []
        self._show(force=True)

    def observer_failed(self, problem: str) -> None:
        """List under the bar what an observer got wrong."""
        self._lines.append(printable(problem))
        self._show(force=True)

    def cell_started(self, cell: Cell) -> None:
        """Name the cell that starts beside the bar."""
        self._now = f"{cell.variant.name} {cell.workload.id}"
        self._show()

    def record_stored(self, record: Record) -> None:
        """Move the bar, and list what failed under it."""
        if record.control:
            return
        self.done += SEARCHED not in record.flags
        if record.status not in EXPECTED:
            self._lines.append(self.line(record).plain)
        self._show()

    def _show(self, *, force: bool = False) -> None:
        if not force and time.monotonic() - self._updated < UPDATE_S:
            return
        from IPython.display import HTML, display

        self._updated = time.monotonic()
        if self._shown is None:
            self._shown = display(HTML(self._html()), display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._shown.update(HTML(self._html()))  # type: ignore[no-untyped-call]

    def _html(self) -> str:
        seconds = time.monotonic() - self._began
        remaining = seconds / self.done * (self.total - self.done) if self.done else 0
        left = f", {duration(remaining)} left" if remaining else ""
        now = f"{self.done} of {self.total} cells in {duration(seconds)}{left} {self._now}"
        head = [self._head, f'<progress value="{self.done}" max="{self.total}"></progress> {html.escape(now)}']
        return "<br>".join([*(line for line in head if line), *map(html.escape, self._lines)])


def progress(plan: Plan, level: Level = "normal") -> Progress:
    """Make what fits where the run is watched: a notebook, a terminal, or a file or pipe."""
    if level == "quiet":
        return Progress(plan, level)
    if in_notebook():
        return NotebookBar(plan, level)
    return Bar(plan, level) if sys.stderr.isatty() else Progress(plan, level)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose output shows HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def announcement(cells: int, unsupported: int, seconds: float) -> str:
    """Say how many cells there are, how many of them will be timed, and about how long that takes."""
    timed = cells - unsupported
    lacking = f"; {unsupported} more {'is' if unsupported == 1 else 'are'} unsupported here" if unsupported else ""
    return f"{timed} {'cell' if timed == 1 else 'cells'} to time, about {duration(seconds)}{lacking}"


def warned(findings: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line what `attnbench doctor` warns of; empty where there is nothing."""
    warnings = [f"{finding['check']} ({finding['found']})" for finding in findings if finding["level"] == "warning"]
    return f"attnbench doctor warns of {', '.join(warnings)}" if warnings else ""


def duration(seconds: float) -> str:
    """Write seconds as people say them: '40 s', '3 min', '2 h 5 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
