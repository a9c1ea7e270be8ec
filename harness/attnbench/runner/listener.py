"""What a run tells whoever watches it, while it works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell
    from attnbench.record import Record


class RunListener:
    """Hears of a run as it goes, in the process that supervises it; this one lets it pass."""

    def run_started(self, manifest: Mapping[str, Any]) -> None:
        """Hear that the run has its devices and begins."""

    def cell_started(self, cell: Cell) -> None:
        """Hear of a cell that starts."""

    def record_stored(self, record: Record) -> None:
        """Hear of a record that is on disk."""

    def observer_failed(self, problem: str) -> None:
        """Hear what an observer got wrong."""
