"""Show the progress of a run: as a bar on a terminal or in a notebook, and as plain lines elsewhere."""

from __future__ import annotations

import html
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichBar
from rich.text import Text

from attnbench.plan.history import TimeEstimate
from attnbench.plan.memory_frontier import SEARCHED
from attnbench.runner.run_listener import RunListener
from attnbench.untrusted import printable

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.record import Record

Level = Literal["quiet", "normal", "verbose"]
COLOURS = {"ok": "green", "unsupported": "bright_black", "interrupted": "yellow"}
EXPECTED_STATUSES = ("ok", "unsupported")
UPDATE_S = 0.1  # minimum time in seconds between two updates of the progress bar in a notebook


class Progress(AbstractContextManager["Progress"], RunListener):
    """A progress display that writes lines to standard error: the number of cells, warnings, and each finished cell.

    At the level `quiet`, only failed cells and problems with observers are shown. Unsupported cells are shown only at
    the level `verbose`.
    """

    def __init__(self, plan: Plan, level: Level = "normal") -> None:
        self.total, self.done, self.level = len(plan.cells), 0, level
        self.width = len(str(self.total))
        self._began, self._estimate = time.monotonic(), TimeEstimate(0.0)
        self._measured: set[tuple[str, str]] = set()  # the device and the id of each workload that has been measured
        self._measured_s = 0.0  # the time that they were estimated to take
        self.console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 10_000)

    def __exit__(self, *exception: object) -> None:
        """Do nothing, because the written lines need no clean-up."""

    def announce(self, unsupported: Mapping[str, str], estimate: TimeEstimate) -> None:
        """Show the number of cells and the estimated duration of the run.

        `unsupported` gives the reason for each unsupported cell, by cell_id.
        """
        self._began, self._estimate = time.monotonic(), estimate
        self._announce(announcement(self.total, len(unsupported), estimate.total_s))

    @property
    def left_s(self) -> float:
        """The estimated seconds until the run ends, or 0 if no estimate was announced."""
        return self._estimate.left_s(len(self._measured), self._measured_s, time.monotonic() - self._began)

    def _announce(self, line: str) -> None:
        if self.level != "quiet":
            self.console.print(line, soft_wrap=True)

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """Show the warnings of `attnbench doctor` about conditions on this machine that could distort timings."""
        warning = warning_line(manifest.get("doctor") or ())
        if warning and self.level != "quiet":
            self.console.print(Text(warning, style="yellow"), soft_wrap=True)

    def observer_failed(self, problem: str) -> None:
        """Show a message about a problem with an observer plugin."""
        self.console.print(Text(printable(problem), style="red"), soft_wrap=True)

    def record_stored(self, record: Record) -> None:
        """Count a finished cell, and write a line for it if the level requires one."""
        if record.control:
            return
        self._count(record)
        if self.shows(record):
            self.console.print(self.line(record), soft_wrap=True)

    def _count(self, record: Record) -> None:
        measured = record.device, record.workload.id
        # All cells of a workload take turns, so the others have been measured, too.
        if record.status == "ok" and measured not in self._measured:
            self._measured.add(measured)
            self._measured_s += self._estimate.seconds.get(record.workload.id, 0.0)
        # The total does not include the cells that the search for the memory frontier adds.
        self.done += SEARCHED not in record.flags

    def shows(self, record: Record) -> bool:
        """Return whether a record is shown as a line at the level of this display."""
        if record.status == "unsupported":
            return self.level == "verbose"
        return record.status != "ok" or self.level != "quiet"

    def line(self, record: Record) -> Text:
        """Return a line that shows a cell's status, its median time if it was timed, and the reason if it failed.

        The line begins with the number of ended cells and the estimated time until the run ends.
        """
        left = f", {duration(self.left_s)} left" if self.left_s else ""
        what = f"[{self.done:>{self.width}}/{self.total}{left}] {record.device} {record.variant} {record.workload.id}: "
        text = Text(what).append(record.status, style=COLOURS.get(record.status, "red"))
        samples = record.samples_ns or record.cold_samples_ns
        if samples:
            text.append(f" {statistics.median(samples) / 1e6:.3f} ms")
        if record.reason:
            text.append(f": {printable(record.reason)}")
        return text


class Bar(Progress):
    """A progress bar on a terminal, with a line above it for each failed cell.

    At the level `verbose`, every cell has a line.
    """

    def __init__(self, plan: Plan, level: Level = "normal") -> None:
        super().__init__(plan, level)
        self._bar = RichBar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}{task.description}", markup=False),
            console=self.console,
        )
        self._task = self._bar.add_task("", total=self.total, left="")

    def __enter__(self) -> Self:
        """Show the progress bar."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop updating the progress bar. Its terminal may have been closed."""
        with suppress(OSError):
            self._bar.stop()

    def cell_started(self, cell: Cell) -> None:
        """Show the name of the cell that just started beside the progress bar."""
        self._bar.update(self._task, description=f"{cell.variant.name} {cell.workload.id}")

    def record_stored(self, record: Record) -> None:
        """Advance the progress bar, and write a line for the finished cell if the level requires one."""
        super().record_stored(record)
        left = f"{duration(self.left_s)} left  " if self.left_s else ""
        self._bar.update(self._task, completed=self.done, left=left)

    def shows(self, record: Record) -> bool:
        """Return whether a record is shown as a line above the progress bar."""
        return self.level == "verbose" or record.status not in EXPECTED_STATUSES


class NotebookBar(Progress):
    """A progress bar in a notebook.

    It is plain HTML, so it needs no widget and stays visible in the saved notebook.
    """

    def __init__(self, plan: Plan, level: Level = "normal") -> None:
        super().__init__(plan, level)
        self._head = self._now = ""
        self._lines: list[str] = []
        self._shown: Any = None
        self._updated = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        """Show the progress bar in its final state."""
        self._now = ""
        self._show(force=True)

    def _announce(self, line: str) -> None:
        """Show the number of cells and the estimated duration of the run above the progress bar."""
        self._head = line
        self._show(force=True)

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """Show the warnings of `attnbench doctor` below the progress bar."""
        self._lines += [warning] if (warning := warning_line(manifest.get("doctor") or ())) else []
        self._show(force=True)

    def observer_failed(self, problem: str) -> None:
        """Show a message about a problem with an observer plugin below the progress bar."""
        self._lines.append(printable(problem))
        self._show(force=True)

    def cell_started(self, cell: Cell) -> None:
        """Show the name of the cell that just started beside the progress bar."""
        self._now = f"{cell.variant.name} {cell.workload.id}"
        self._show()

    def record_stored(self, record: Record) -> None:
        """Advance the progress bar, and show a failed cell below it."""
        if record.control:
            return
        self._count(record)
        if record.status not in EXPECTED_STATUSES:
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
        left = f", {duration(self.left_s)} left" if self.left_s else ""
        now = f"{self.done} of {self.total} cells in {duration(seconds)}{left} {self._now}"
        head = [self._head, f'<progress value="{self.done}" max="{self.total}"></progress> {html.escape(now)}']
        return "<br>".join([*(line for line in head if line), *map(html.escape, self._lines)])


def progress(plan: Plan, level: Level = "normal") -> Progress:
    """Return a progress display that suits the level and the output: a notebook, a terminal, or a file or pipe."""
    if level == "quiet":
        return Progress(plan, level)
    if in_notebook():
        return NotebookBar(plan, level)
    return Bar(plan, level) if sys.stderr.isatty() else Progress(plan, level)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, which can display HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def announcement(cells: int, unsupported: int, seconds: float) -> str:
    """Return a line with the number of cells to time, the estimated time, and the number of unsupported cells."""
    timed = cells - unsupported
    lacking = f"; {unsupported} more {'is' if unsupported == 1 else 'are'} unsupported here" if unsupported else ""
    return f"{timed} {'cell' if timed == 1 else 'cells'} to time, about {duration(seconds)}{lacking}"


def warning_line(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return the warnings of `attnbench doctor` as one line, or an empty string if there are none."""
    warnings = [f"{finding['check']} ({finding['found']})" for finding in findings if finding["level"] == "warning"]
    return f"attnbench doctor warns of {', '.join(warnings)}" if warnings else ""


def duration(seconds: float) -> str:
    """Return a duration in readable units: '40 s', '3 min', '2 h 5 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
