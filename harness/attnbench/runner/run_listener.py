"""The interface through which a run reports its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell
    from attnbench.record import Record


class RunListener:
    """Receives run events in the supervisor's process. This base class ignores them."""

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """Receive the manifest of a run that has its devices and starts."""

    def cell_started(self, cell: Cell) -> None:
        """Receive a cell that starts."""

    def record_stored(self, record: Record) -> None:
        """Receive a record that was written to disk."""

    def observer_failed(self, problem: str) -> None:
        """Receive a line about an observer plugin that raised, crashed or took too long."""
