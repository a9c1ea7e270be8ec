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
    from attnbench.runner.cell_runner import Lane, Lanes
    from attnbench.runner.queue import Pool

CUDA_ERRORS = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")
CALLS_A_BLOCK = 2  # at least, while the budget allows it: 10 blocks make the 20 samples of an interval


class Group:
    """Opens the cells of one workload, hands out blocks in turns, and closes them.

    `announce` hears of each cell before it opens, `store` takes each finished record, `interrupted` says when to stop.
    """

    def __init__(
        self,
        lanes: Lanes,
        pool: Pool,
        announce: Callable[[Cell], None],
        store: Callable[[Record], None],
        interrupted: Callable[[], bool],
    ) -> None:
        self._lanes, self._pool, self._interrupted = lanes, pool, interrupted
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
            self._lanes.stop(but={cell.variant.name for cell in cells})
        cells = self._possible(cells)
        self._once, self._again = {cell.variant.name: cell for cell in cells}, []
        ready: dict[str, Lane] = {}
        for cell in cells:
            if self._interrupted():
                break
            self._announce(cell)
            ended = self._lanes.of(cell).open(cell)
            if ended is None:
                ready[cell.variant.name] = self._lanes.of(cell)
                if not self._lanes.protocol.interleave:
                    self._lanes.of(cell).flag(NOT_INTERLEAVED)
            else:
                self._settle(ended)
        controls = self._open_control(cells, ready) if control else []
        self._rounds([*ready.values(), *controls])
        self._once = {}
        for cell in self._again:
            self._measure_alone(cell)

    def _settle(self, record: Record) -> None:
        """Store a record, or have its cell run again where it may have been a neighbour's victim."""
        crowded = record.status == "out_of_memory" and self._lanes.are_open
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
                if self._lanes.terms.exhaustive
                else self._pool.memory.predicted_reason(cell.variant.name, cell.workload)
            )
            if reason := self._pool.surveyed().reason(cell.variant, cell.workload):
                self._store(self._lanes.of(cell).refuse(cell, "unsupported", reason))
            elif rule:
                self._store(self._lanes.of(cell).refuse(cell, "out_of_memory", rule, PREDICTED))
            else:
                supported.append(cell)
        for cell, following in zip(supported, [*supported[1:], None], strict=True):
            self._lanes.of(cell).start(cell)
            if following is not None:
                self._lanes.of(following).start(following)
            self._lanes.of(cell).settle()
        return supported

    def _open_control(self, cells: Sequence[Cell], ready: dict[str, Lane]) -> list[Lane]:
        """Open the baseline a second time: what differs between the two is the noise floor."""
        if not ready or not self._lanes.protocol.interleave or self._interrupted():
            return []
        declared = [cell.variant.name for cell in cells if cell.variant.baseline and cell.variant.name in ready]
        self._baseline = min(declared, default=next(iter(ready)))
        cell = next(cell for cell in cells if cell.variant.name == self._baseline)
        lane = self._lanes.of(cell, control=True)
        ended = lane.open(cell)
        if ended is not None:
            self._store(ended)
        return [lane] if ended is None else []

    def _measure_alone(self, cell: Cell) -> None:
        if self._interrupted():
            return
        lane = self._lanes.of(cell)
        ended = lane.open(cell)
        if ended is not None:
            self._store(ended)
        else:
            lane.flag(NOT_INTERLEAVED)
            self._rounds([lane])

    def _rounds(self, lanes: list[Lane]) -> None:
        """Hand out blocks until every cell has enough, then close."""
        turns = [lanes] if self._lanes.protocol.interleave else [[lane] for lane in lanes]
        for taking_turns in turns:
            self._take_turns(taking_turns)
        for lane in lanes:
            if lane.is_open:
                self._settle(lane.abandon() if self._interrupted() else lane.close())

    def _take_turns(self, lanes: list[Lane]) -> None:
        """Go round the lanes in `turn`'s order; who has enough drops out, the baseline last.

        The baseline and the control stay in while any other does, so that every lane shares all its rounds with them.
        """
        for number in itertools.count():
            unfinished = [lane for lane in lanes if lane.is_open and not lane.stopping.done]
            if not unfinished or self._interrupted():
                return
            taking_part = [
                lane
                for lane in lanes
                if lane.is_open and (not lane.stopping.done or lane.control or lane.variant == self._baseline)
            ]
            for lane in turn(taking_part, number):
                ended = lane.block(number, self._block_ns(lane)) if not self._interrupted() else None
                if ended is not None:
                    self._settle(ended)

    def _block_ns(self, lane: Lane) -> float:
        protocol = self._lanes.protocol
        wanted = max(protocol.block_s * 1e9, CALLS_A_BLOCK * lane.call_ns)
        return min(wanted, protocol.budget_s * 1e9 / protocol.min_blocks)


def turn(lanes: Sequence[Lane], number: int) -> list[Lane]:
    """Give the order of a round: A B B A, each second round being the one before it in reverse.

    Who comes last in a round comes first in the next, right after itself, which may suit it: so each pair of rounds
    begins one lane further on, and everybody is so placed equally often.
    """
    first = number // 2 % len(lanes)
    order = [*lanes[first:], *lanes[:first]]
    return order if number % 2 == 0 else order[::-1]
