"""Measure the variants of one workload on one device in alternation, in A B B A order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from attnbench.errors import CUDA_ERROR_TEXTS
from attnbench.machine.utc_clock import utc_now
from attnbench.plan.memory_frontier import PREDICTED
from attnbench.record import NOT_INTERLEAVED
from attnbench.runner.cell_progress import CellProgress
from attnbench.runner.comparisons import Comparisons
from attnbench.stats.stopping import PRECISION

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell
    from attnbench.record import Record
    from attnbench.runner.cell_runner import CellRunner
    from attnbench.runner.cell_runners import CellRunners
    from attnbench.runner.queue import WorkQueue

# After an error with one of these texts, a cell is tried again. The last two are errors of CUDA's libraries.
RETRIED = (*CUDA_ERROR_TEXTS, "CUBLAS_STATUS", "CUDNN_STATUS")
# A block has at least this many calls if the budget allows, so that 10 blocks provide the 20 samples that a confidence
# interval needs.
MIN_CALLS_PER_BLOCK = 2


class InterleavedCells:
    """The measurement of one workload's cells on one device: cells are opened, timed in turn, and closed.

    `announce` is called with each cell before the cell is opened, and `store` with each finished record. No further
    block starts once `interrupted` returns True.
    """

    def __init__(
        self,
        runners: CellRunners,
        queue: WorkQueue,
        announce: Callable[[Cell], None],
        store: Callable[[Record], None],
        interrupted: Callable[[], bool],
    ) -> None:
        self._runners, self._queue, self._interrupted = runners, queue, interrupted
        self._announce, self._store = announce, store
        self._baseline = ""
        self._comparisons = Comparisons()
        self._measured: dict[str, CellProgress] = {}  # key: variant; value: its cell, which has not ended yet
        self._may_retry: dict[str, Cell] = {}  # key: variant; value: its cell, which may still be tried again
        self._retries: list[Cell] = []

    def measure(self, cells: Sequence[Cell], *, alone: bool = False) -> None:
        """Measure all cells of one workload, each in several processes one after the other.

        If `alone` is True, `cells` contains one cell, which is measured in one process and with no other worker on the
        device, so that it can use all of the device's memory.

        If a cell fails with a CUDA error, or runs out of memory while other cells are open, another variant may have
        caused the failure. Such a cell is measured again, with no other worker on the device and in a new worker.
        """
        if alone:
            self._runners.stop(keep=cells[0])
        cells = self._possible(cells)
        if not cells:
            return
        self._may_retry, self._retries = {cell.variant.name: cell for cell in cells}, []
        places = self._runners.places(cells[0])
        if self._runners.protocol.interleave and (places > 1 or alone):
            self._measure_in_processes(cells, places, alone=alone)
        else:
            for cell in cells:
                self._measure_alone(cell, places)
        self._may_retry = {}
        for cell in self._retries:
            self._runners.stop()
            self._measure_alone(cell, places)

    def _measure_in_processes(self, cells: Sequence[Cell], places: int, *, alone: bool) -> None:
        """Measure the cells in alternation, first in one process of each variant, then in the next.

        A cell is not measured in all its processes if its comparisons are clear before.
        """
        processes = 1 if alone else self._runners.protocol.processes_on(cells[0].device.kind)
        self._measured = {cell.variant.name: CellProgress(cell, utc_now(), processes) for cell in cells}
        self._comparisons.begin_workload()
        rounds = itertools.count()
        for process in range(processes):
            going_on = [cell for cell in cells if cell.variant.name in self._measured]
            if going_on and not self._interrupted():
                self._measure_in_turn(going_on, process, places, rounds)
        for progress in self._measured.values():  # the run was interrupted between two processes of these cells
            self._store(self._runners.for_cell(progress.cell).abandon(progress))
        self._measured = {}

    def _measure_in_turn(self, cells: Sequence[Cell], process: int, places: int, rounds: Iterator[int]) -> None:
        """Measure the cells in alternation in one process of each variant, `places` of them at a time.

        The baseline stays open until all other cells are measured, so that each of them shares its rounds with the
        baseline. `rounds` yields the numbers of the rounds.
        """
        waiting = deque(sorted(cells, key=_baselines_first))
        baseline: CellRunner | None = None
        while waiting and not self._interrupted():
            together = [baseline] if baseline and baseline.is_open else []
            self._runners.start([*itertools.islice(waiting, places - len(together))], process, places)
            while waiting and len(together) < places and not self._interrupted():
                cell = waiting.popleft()
                runner = self._open(self._measured[cell.variant.name], places)
                if runner is not None:
                    together.append(runner)
                    if baseline is None:
                        baseline, self._baseline = runner, cell.variant.name
            self._take_turns(together, rounds)
            self._close_after_turns([runner for runner in together if runner is not baseline])
        self._close_after_turns([baseline] if baseline else [])

    def _close_after_turns(self, runners: Sequence[CellRunner]) -> None:
        """Close the cells, and measure those in no further process that are precise and whose comparisons are clear.

        The baseline is needed as long as any other cell is measured.
        """
        unclear = self._comparisons.unclear(self._measured, self._baseline)
        for runner in runners:
            needed = runner.is_open and runner.variant == self._baseline and len(self._measured) > 1
            if runner.is_open and not needed and runner.variant not in unclear and runner.stopped_by == PRECISION:
                runner.finish_with_this_process()
        self._close(runners)

    def _measure_alone(self, cell: Cell, places: int) -> None:
        """Measure a cell in one process while no other cell is open."""
        if self._interrupted():
            return
        progress = self._measured[cell.variant.name] = CellProgress(cell, utc_now())
        runner = self._open(progress, places)
        if runner is not None:
            runner.flag(NOT_INTERLEAVED)
            self._take_turns([runner], itertools.count())
            self._close([runner])

    def _open(self, progress: CellProgress, places: int) -> CellRunner | None:
        """Open a cell and return its runner, or store the cell's record and return None if the cell can't be opened."""
        cell, process = progress.cell, progress.process
        self._runners.start([cell], process, places)
        if process == 0:
            self._announce(cell)
        runner = self._runners.for_cell(cell, process)
        ended = runner.open(progress)
        if ended is None:
            return runner
        self._store_or_retry(ended)
        return None

    def _close(self, runners: Iterable[CellRunner]) -> None:
        """Close the cells that are still open, and store the records of those that have ended."""
        for runner in runners:
            if runner.is_open:
                ended = runner.abandon() if self._interrupted() else runner.close()
                if ended is not None:
                    self._store_or_retry(ended)

    def _store_or_retry(self, record: Record) -> None:
        """Store a record, or schedule a second attempt if another variant may have caused the cell's failure."""
        crowded = record.status == "out_of_memory" and self._runners.any_open
        cuda_error = record.status == "error" and any(text in str(record.reason) for text in RETRIED)
        self._measured.pop(record.variant, None)
        if record.status != "ok":
            self._comparisons.drop(record.variant)
        if (crowded or cuda_error) and record.variant in self._may_retry:
            self._retries.append(self._may_retry.pop(record.variant))
        else:
            self._store(record)

    def _possible(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells that may succeed.

        All other cells are unsupported or predicted to run out of memory. A record is stored for each of them.
        """
        supported = []
        for cell in cells:
            rule = (
                None
                if self._runners.limits.exhaustive
                else self._queue.memory.predicted_reason(cell.variant.name, cell.workload)
            )
            if reason := self._queue.support().reason(cell.variant, cell.workload):
                self._store(self._runners.for_cell(cell).refuse(cell, "unsupported", reason))
            elif rule:
                self._store(self._runners.for_cell(cell).refuse(cell, "out_of_memory", rule, PREDICTED))
            else:
                supported.append(cell)
        return supported

    def _take_turns(self, runners: list[CellRunner], rounds: Iterator[int]) -> None:
        """Time one block of each cell per round, in the order of `round_order`, until all cells have enough samples.

        `rounds` yields the numbers of the rounds. A cell that has enough samples takes no part in further rounds. The
        baseline is an exception: it takes part until the end, so that every other cell can be compared with it in each
        round.

        A cell is measured in one round more if others had the cores during its block or during that of the baseline,
        with which it is compared. There are at most as many such rounds as a process must have at least.
        """
        repeats = {runner.variant: runner.share.min_blocks for runner in runners}
        while any(runner.is_open and not runner.stopping.done for runner in runners) and not self._interrupted():
            number = next(rounds)
            taking_part = [
                runner
                for runner in runners
                if runner.is_open and (not runner.stopping.done or runner.variant == self._baseline)
            ]
            for runner in round_order(taking_part, number):
                ended = runner.block(number, self._block_ns(runner)) if not self._interrupted() else None
                if ended is not None:
                    self._store_or_retry(ended)
            timed = [runner for runner in taking_part if runner.is_open]
            baseline_disturbed = any(runner.was_disturbed for runner in timed if runner.variant == self._baseline)
            for runner in timed:
                if repeats[runner.variant] and (baseline_disturbed or runner.was_disturbed):
                    repeats[runner.variant] -= 1
                    runner.repeat_block()
                else:
                    runner.count_block()

    def _block_ns(self, runner: CellRunner) -> float:
        wanted = max(self._runners.protocol.block_s * 1e9, MIN_CALLS_PER_BLOCK * runner.call_ns)
        return min(wanted, runner.share.budget_s * 1e9 / runner.share.min_blocks)


def _baselines_first(cell: Cell) -> tuple[bool, str]:
    """Return a sort key that puts declared baselines first, by name, and keeps the order of all other cells."""
    return not cell.variant.baseline, cell.variant.name if cell.variant.baseline else ""


def round_order(runners: Sequence[CellRunner], number: int) -> list[CellRunner]:
    """Return the runners in the order of their turns in round `number`.

    Rounds come in pairs, and the second round of a pair reverses the order of the first (A B B A). The runner that ends
    the first round therefore starts the second one, while its data is still in the caches. To give every runner this
    advantage equally often, each pair starts one runner later than the previous pair.
    """
    first = number // 2 % len(runners)
    order = [*runners[first:], *runners[:first]]
    return order if number % 2 == 0 else order[::-1]
