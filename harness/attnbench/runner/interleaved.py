"""Measure the variants of one workload on one device in alternation, in A B B A order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attnbench.plan.memory_frontier import PREDICTED
from attnbench.record import NOT_INTERLEAVED

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell
    from attnbench.record import Record
    from attnbench.runner.cell_runner import CellRunner, CellRunners
    from attnbench.runner.queue import WorkQueue

CUDA_ERRORS = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")
# A block has at least this many calls if the budget allows, so that 10 blocks provide the 20 samples that a confidence
# interval needs.
MIN_CALLS_PER_BLOCK = 2


class InterleavedCells:
    """The measurement of one workload's cells on one device: all cells are opened, timed in turn, and closed.

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
        self._may_retry: dict[str, Cell] = {}  # key: variant; value: its cell, which may still be tried again
        self._retries: list[Cell] = []

    def measure(self, cells: Sequence[Cell], *, control: bool = True) -> None:
        """Measure all cells of one workload, together with the A/A control.

        If `control` is False, there is no A/A control, and the workers of variants that are not in `cells` are stopped
        first, so that these cells can use all of the device's memory.

        If a cell fails with a CUDA error, or runs out of memory while other cells are open, another variant may have
        caused the failure. Such a cell is measured again, alone and in a new worker.
        """
        if not control:
            self._runners.stop(keep={cell.variant.name for cell in cells})
        cells = self._possible(cells)
        self._may_retry, self._retries = {cell.variant.name: cell for cell in cells}, []
        ready: dict[str, CellRunner] = {}
        for cell in cells:
            if self._interrupted():
                break
            self._announce(cell)
            ended = self._runners.for_cell(cell).open(cell)
            if ended is None:
                ready[cell.variant.name] = self._runners.for_cell(cell)
                if not self._runners.protocol.interleave:
                    self._runners.for_cell(cell).flag(NOT_INTERLEAVED)
            else:
                self._store_or_retry(ended)
        controls = self._open_control(cells, ready) if control else []
        self._rounds([*ready.values(), *controls])
        self._may_retry = {}
        for cell in self._retries:
            self._measure_alone(cell)

    def _store_or_retry(self, record: Record) -> None:
        """Store a record, or schedule a second attempt if another variant may have caused the cell's failure."""
        crowded = record.status == "out_of_memory" and self._runners.any_open
        cuda_error = record.status == "error" and any(sign in str(record.reason) for sign in CUDA_ERRORS)
        if (crowded or cuda_error) and not record.control and record.variant in self._may_retry:
            self._retries.append(self._may_retry.pop(record.variant))
        else:
            self._store(record)

    def _possible(self, cells: Sequence[Cell]) -> list[Cell]:
        """Start the workers of the cells that may succeed, two at a time, and return these cells.

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
        for cell, following in zip(supported, [*supported[1:], None], strict=True):
            self._runners.for_cell(cell).start(cell)
            if following is not None:
                self._runners.for_cell(following).start(following)
            self._runners.for_cell(cell).wait_until_loaded()
        return supported

    def _open_control(self, cells: Sequence[Cell], ready: dict[str, CellRunner]) -> list[CellRunner]:
        """Open the baseline a second time, as the A/A control, and return the control's runner in a list.

        The list is empty if there is no control. The baseline and the control run the same code, so the difference
        between their times is the noise floor.
        """
        if not ready or not self._runners.protocol.interleave or self._interrupted():
            return []
        declared = [cell.variant.name for cell in cells if cell.variant.baseline and cell.variant.name in ready]
        self._baseline = min(declared, default=next(iter(ready)))
        cell = next(cell for cell in cells if cell.variant.name == self._baseline)
        runner = self._runners.for_cell(cell, control=True)
        ended = runner.open(cell)
        if ended is not None:
            self._store(ended)
        return [runner] if ended is None else []

    def _measure_alone(self, cell: Cell) -> None:
        if self._interrupted():
            return
        runner = self._runners.for_cell(cell)
        ended = runner.open(cell)
        if ended is not None:
            self._store(ended)
        else:
            runner.flag(NOT_INTERLEAVED)
            self._rounds([runner])

    def _rounds(self, runners: list[CellRunner]) -> None:
        """Time blocks until every cell has enough samples, and then close the cells."""
        turns = [runners] if self._runners.protocol.interleave else [[runner] for runner in runners]
        for taking_turns in turns:
            self._take_turns(taking_turns)
        for runner in runners:
            if runner.is_open:
                self._store_or_retry(runner.abandon() if self._interrupted() else runner.close())

    def _take_turns(self, runners: list[CellRunner]) -> None:
        """Time one block of each cell per round, in the order of `round_order`, until all cells have enough samples.

        A cell that has enough samples takes no part in further rounds. The baseline and the control are exceptions:
        they take part until the end, so that every other cell can be compared with them in each round.
        """
        for number in itertools.count():
            unfinished = [runner for runner in runners if runner.is_open and not runner.stopping.done]
            if not unfinished or self._interrupted():
                return
            taking_part = [
                runner
                for runner in runners
                if runner.is_open and (not runner.stopping.done or runner.control or runner.variant == self._baseline)
            ]
            for runner in round_order(taking_part, number):
                ended = runner.block(number, self._block_ns(runner)) if not self._interrupted() else None
                if ended is not None:
                    self._store_or_retry(ended)

    def _block_ns(self, runner: CellRunner) -> float:
        protocol = self._runners.protocol
        wanted = max(protocol.block_s * 1e9, MIN_CALLS_PER_BLOCK * runner.call_ns)
        return min(wanted, protocol.budget_s * 1e9 / protocol.min_blocks)


def round_order(runners: Sequence[CellRunner], number: int) -> list[CellRunner]:
    """Return the runners in the order of their turns in round `number`.

    Rounds come in pairs, and the second round of a pair reverses the order of the first (A B B A). The runner that ends
    the first round therefore starts the second one, while its data is still in the caches. To give every runner this
    advantage equally often, each pair starts one runner later than the previous pair.
    """
    first = number // 2 % len(runners)
    order = [*runners[first:], *runners[:first]]
    return order if number % 2 == 0 else order[::-1]
