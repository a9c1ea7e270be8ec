"""The cell runners of one device, and which of their workers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from attnbench.runner.cell_runner import CellRunner
from attnbench.runner.places import places_on

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.cells import Cell
    from attnbench.runner.cell_limits import CellLimits
    from attnbench.runner.cell_progress import CellContext


class CellRunners:
    """The cell runners of one device, which are created on first use.

    There is one runner for each process of each variant. A runner keeps its worker from one workload to the next, as
    long as the device has a place for it.
    """

    def __init__(self, context: CellContext) -> None:
        self._context = context
        # Key: (variant, number of the process). The runner that was used last is at the end.
        self._runners: dict[tuple[str, int], CellRunner] = {}

    @property
    def protocol(self) -> MeasureConfig:
        """The measure config for the device's cells."""
        return self._context.protocol

    @property
    def limits(self) -> CellLimits:
        """The time and memory limits for each of the device's cells."""
        return self._context.limits

    @property
    def any_open(self) -> bool:
        """Whether any cell is open."""
        return any(runner.is_open for runner in self._runners.values())

    @property
    def seconds(self) -> dict[str, float]:
        """The time in seconds that workers spent in each phase before they were stopped."""
        total: dict[str, float] = {}
        for runner in self._runners.values():
            for phase, seconds in runner.seconds.items():
                total[phase] = total.get(phase, 0.0) + seconds
        return total

    def for_cell(self, cell: Cell, process: int = 0) -> CellRunner:
        """Return the runner for one process of the cell's variant."""
        key = (cell.variant.name, process)
        runner = self._runners.pop(key, None) or CellRunner(self._context, self._resident_workers)
        self._runners[key] = runner
        return runner

    def places(self, cell: Cell) -> int:
        """Return how many workers may be resident on the device while the cell's workload is measured."""
        return places_on(
            cell.device,
            cell.workload,
            self.limits,
            resident=self._resident_workers(),
            devices=self._context.devices,
        )

    def start(self, cells: Sequence[Cell], process: int, places: int) -> None:
        """Start one process of each cell's variant, two at a time, and wait until they have loaded their plugins.

        Before, other workers are stopped if there would otherwise be more than `places` workers on the device. The
        worker that was not used for the longest time is stopped first. Workers with an open cell are never stopped. A
        worker that holds much more memory than at its start is replaced.
        """
        runners = [self.for_cell(cell, process) for cell in cells]
        for runner, cell in zip(runners, cells, strict=True):
            runner.stop_if_grown(cell.device.kind)
        missing = sum(not runner.has_worker for runner in runners)
        for other in list(self._runners.values()):
            if missing == 0 or self._resident_workers() + missing <= places:
                break
            if other.has_worker and not other.is_open and other not in runners:
                other.stop()
        for runner, cell, following in zip_longest(runners, cells, range(1, len(cells))):
            runner.start(cell)
            if following is not None:
                runners[following].start(cells[following])
            runner.wait_until_loaded()

    def stop(self, keep: Cell | None = None) -> None:
        """Stop all workers, but keep the first process for the cell `keep`."""
        for key, runner in self._runners.items():
            if keep is None or key != (keep.variant.name, 0):
                runner.stop()

    def _resident_workers(self) -> int:
        return sum(runner.has_worker for runner in self._runners.values())
