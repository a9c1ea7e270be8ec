"""The comparisons between the cells of a device while they are measured, which show when a cell is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attnbench.measure_config import MIN_PROCESSES
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.paired import process_ratios
from attnbench.stats.sequential import unclear_variants

if TYPE_CHECKING:
    from attnbench.runner.cell_progress import CellProgress


class Comparisons:
    """The log-ratios of a device's cells to the baseline, of one workload after the other.

    All workloads so far show how much processes that run the same code differ.
    """

    def __init__(self) -> None:
        self._earlier: list[list[float]] = []  # one row for each cell of the earlier workloads
        self._rows: dict[str, dict[int, float]] = {}  # by variant, for the present workload
        self._baseline = ""

    def begin_workload(self) -> None:
        """Start with the cells of the next workload."""
        self._earlier += [list(row.values()) for row in self._rows.values()]
        self._rows = {}

    def drop(self, variant: str) -> None:
        """Remove a variant whose cell has failed."""
        self._rows.pop(variant, None)

    def unclear(self, cells: Mapping[str, CellProgress], baseline: str) -> set[str]:
        """Return the variants of the present workload that need further processes.

        `cells` holds the cells that have not ended, keyed by variant. Without another variant there is nothing to
        compare the baseline with; then it needs all its processes, so that it can be compared with other runs.
        """
        if baseline != self._baseline:  # the earlier baseline failed, or this is another workload
            self._rows, self._baseline = {}, baseline
        if baseline in cells:
            reference = cells[baseline].blocks
            self._rows |= {
                name: process_ratios(cell.blocks, reference) for name, cell in cells.items() if name != baseline
            }
        if not self._rows:
            return {baseline}
        floor = NoiseFloor.of([*self._earlier, *(list(row.values()) for row in self._rows.values())])
        return unclear_variants(self._rows, baseline, floor, MIN_PROCESSES)
