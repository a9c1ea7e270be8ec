"""The interface through which a run reports its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell
    from attnbench.record import Record


class RunListener:
    """A receiver of run events, called in the supervisor's process. This base class ignores all events."""

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """Handle the start of a run, which has already locked its devices."""

    def cell_started(self, cell: Cell) -> None:
        """Handle the start of a cell."""

    def record_stored(self, record: Record) -> None:
        """Handle a record that has been written to disk."""

    def observer_failed(self, problem: str) -> None:
        """Handle a message about an observer plugin that raised an exception, crashed or took too long."""
