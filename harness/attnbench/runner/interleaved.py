"""The variants of one workload on one device, measured side by side in A B B A blocks."""

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
CALLS_A_BLOCK = 2  # at least, while the budget allows it: 10 blocks make the 20 samples of an interval


class InterleavedCells:
    """Opens the cells of one workload, hands out blocks in turns, and closes them.

    `announce` hears of each cell before it opens, `store` takes each finished record, `interrupted` says when to stop.
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
        self._once: dict[str, Cell] = {}  # by variant: what may be run once more, by itself
        self._again: list[Cell] = []  # what will be

    def measure(self, cells: Sequence[Cell], *, control: bool = True) -> None:
        """Measure all cells of one workload; without an A/A `control` they have the device's memory to themselves.

        What did not fit in memory beside the others is run again alone, and so is, once and in a new worker, what met
        a CUDA error: it may have been a neighbour's fault, on the device or earlier in the same process.
        """
        if not control:
            self._runners.stop(but={cell.variant.name for cell in cells})
        cells = self._possible(cells)
        self._once, self._again = {cell.variant.name: cell for cell in cells}, []
        ready: dict[str, CellRunner] = {}
        for cell in cells:
            if self._interrupted():
                break
            self._announce(cell)
            ended = self._runners.of(cell).open(cell)
            if ended is None:
                ready[cell.variant.name] = self._runners.of(cell)
                if not self._runners.protocol.interleave:
                    self._runners.of(cell).flag(NOT_INTERLEAVED)
            else:
                self._settle(ended)
        controls = self._open_control(cells, ready) if control else []
        self._rounds([*ready.values(), *controls])
        self._once = {}
        for cell in self._again:
            self._measure_alone(cell)

    def _settle(self, record: Record) -> None:
        """Store a record, or have its cell run again where it may have been a neighbour's victim."""
        crowded = record.status == "out_of_memory" and self._runners.are_open
        victim = crowded or (record.status == "error" and any(sign in str(record.reason) for sign in CUDA_ERRORS))
        if victim and not record.control and record.variant in self._once:
            self._again.append(self._once.pop(record.variant))
        else:
            self._store(record)

    def _possible(self, cells: Sequence[Cell]) -> list[Cell]:
        """Record what is known to be unsupported or not to fit, and load the workers of the rest, two at a time."""
        supported = []
        for cell in cells:
            rule = (
                None
                if self._runners.limits.exhaustive
                else self._queue.memory.predicted_reason(cell.variant.name, cell.workload)
            )
            if reason := self._queue.surveyed().reason(cell.variant, cell.workload):
                self._store(self._runners.of(cell).refuse(cell, "unsupported", reason))
            elif rule:
                self._store(self._runners.of(cell).refuse(cell, "out_of_memory", rule, PREDICTED))
            else:
                supported.append(cell)
        for cell, following in zip(supported, [*supported[1:], None], strict=True):
            self._runners.of(cell).start(cell)
            if following is not None:
                self._runners.of(following).start(following)
            self._runners.of(cell).settle()
        return supported

    def _open_control(self, cells: Sequence[Cell], ready: dict[str, CellRunner]) -> list[CellRunner]:
        """Open the baseline a second time: what differs between the two is the noise floor."""
        if not ready or not self._runners.protocol.interleave or self._interrupted():
            return []
        declared = [cell.variant.name for cell in cells if cell.variant.baseline and cell.variant.name in ready]
        self._baseline = min(declared, default=next(iter(ready)))
        cell = next(cell for cell in cells if cell.variant.name == self._baseline)
        runner = self._runners.of(cell, control=True)
        ended = runner.open(cell)
        if ended is not None:
            self._store(ended)
        return [runner] if ended is None else []

    def _measure_alone(self, cell: Cell) -> None:
        if self._interrupted():
            return
        runner = self._runners.of(cell)
        ended = runner.open(cell)
        if ended is not None:
            self._store(ended)
        else:
            runner.flag(NOT_INTERLEAVED)
            self._rounds([runner])

    def _rounds(self, runners: list[CellRunner]) -> None:
        """Hand out blocks until every cell has enough, then close."""
        turns = [runners] if self._runners.protocol.interleave else [[runner] for runner in runners]
        for taking_turns in turns:
            self._take_turns(taking_turns)
        for runner in runners:
            if runner.is_open:
                self._settle(runner.abandon() if self._interrupted() else runner.close())

    def _take_turns(self, runners: list[CellRunner]) -> None:
        """Go round the runners in `turn`'s order; who has enough drops out, the baseline last.

        The baseline and the control stay in while any other does, so that every runner shares all its rounds with them.
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
            for runner in turn(taking_part, number):
                ended = runner.block(number, self._block_ns(runner)) if not self._interrupted() else None
                if ended is not None:
                    self._settle(ended)

    def _block_ns(self, runner: CellRunner) -> float:
        protocol = self._runners.protocol
        wanted = max(protocol.block_s * 1e9, CALLS_A_BLOCK * runner.call_ns)
        return min(wanted, protocol.budget_s * 1e9 / protocol.min_blocks)


def turn(runners: Sequence[CellRunner], number: int) -> list[CellRunner]:
    """Give the order of a round: A B B A, each second round being the one before it in reverse.

    Who comes last in a round comes first in the next, right after itself, which may suit it: so each pair of rounds
    begins one runner further on, and everybody is so placed equally often.
    """
    first = number // 2 % len(runners)
    order = [*runners[first:], *runners[:first]]
    return order if number % 2 == 0 else order[::-1]
