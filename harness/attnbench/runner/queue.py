"""What devices of one model share: the work that is left, and what was learnt of the variants."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from attnbench.plan.memory_frontier import LengthOutcome, OutOfMemory, at_length, next_length, series_key
from attnbench.plan.support import SupportAnswers, support_of

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.devices import Device
    from attnbench.record import Record

ASK_AGAIN_S = 0.2


class WorkQueue:
    """Hands groups of cells to whichever device of one model is free; safe to use from a thread a device.

    All variants of one workload make a group and go to one device, so that they are measured side by side. Several
    devices take the longest groups first, so that they end together; one takes them as planned, the small before the
    large. When all is done the frontier is searched, one variant and series of lengths at a time.
    """

    def __init__(self, plan: Plan, devices: list[Device], earlier: Iterable[Record] = ()) -> None:
        self._plan, self.devices = plan, devices
        groups = plan.workload_groups(devices[0])
        if len(devices) > 1:
            groups.sort(key=lambda cells: sum(cell.workload.flops() for cell in cells), reverse=True)
        self._groups = deque(groups)
        self._searches = deque(_searches(plan, devices[0]))
        self._taken: dict[str, Cell | None] = {}  # by the device at work: the search that it is at, if any
        self._changed = threading.Condition()
        self._survey: SupportAnswers | None = None
        self._outcomes: dict[tuple[str, str], dict[int, LengthOutcome]] = {}
        self.memory = OutOfMemory()
        self.crashes: Counter[tuple[str, bool]] = Counter()  # by variant, apart for the A/A control
        known = {cell.variant.name: cell for cell in (*plan.cells, *plan.frontier) if cell.device == devices[0]}
        for record in earlier:
            cell = known.get(record.variant)
            if cell and plan.cell_at(cell, record.workload).cell_id == record.cell_id:  # it is not stale
                self.learn(record)

    def take(self, device: Device, halted: Callable[[], bool]) -> list[Cell] | None:
        """Give the next cells to measure side by side on `device`, or None when there are none or `halted` says so.

        When they are done `done` must be called.
        """
        with self._changed:
            while not halted():
                cells = self._groups.popleft() if self._groups else None
                if cells is None and None not in self._taken.values():
                    cells = self._next_search(device)
                if cells is not None:
                    self._taken.setdefault(device.name, None)
                    return [dataclasses.replace(cell, device=device) for cell in cells]
                if not self._searches:
                    return None
                self._changed.wait(ASK_AGAIN_S)  # a search starts from what the groups come to
        return None

    def searching(self, device: Device) -> bool:
        """Whether the cells that `device` took belong to a search."""
        return self._taken[device.name] is not None

    def done(self, device: Device) -> None:
        """Say that the cells that `device` took are done; a search goes on."""
        with self._changed:
            search = self._taken.pop(device.name)
            if search is not None:
                self._searches.appendleft(search)
            self._changed.notify_all()

    def learn(self, record: Record) -> None:
        """Take in what a record says of the frontier."""
        self.memory.add(record)
        if not record.control and record.status != "interrupted":
            series = self._outcomes.setdefault((record.variant, series_key(record.workload)), {})
            series[record.workload.seq_k] = LengthOutcome.from_record(record)

    def surveyed(self) -> SupportAnswers:
        """Ask once what will be unsupported, whichever device comes first."""
        with self._changed:
            if self._survey is None:
                self._survey = support_of(self._plan, self.devices[0])
            return self._survey

    def _next_search(self, device: Device) -> list[Cell] | None:
        """Take the next length of the first search that is not at its end; a search is one variant's."""
        while self._searches:
            search = self._searches.popleft()
            length = next_length(self._outcomes.get((search.variant.name, series_key(search.workload)), {}))
            if length is not None:
                self._taken[device.name] = search
                return [self._plan.cell_at(search, at_length(search.workload, length))]
        return None


def _searches(plan: Plan, device: Device) -> list[Cell]:
    """Give one cell for each variant and series whose frontier is to be searched."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in plan.frontier:
        if cell.device == device:
            found.setdefault((cell.variant.name, series_key(cell.workload)), cell)
    return list(found.values())
