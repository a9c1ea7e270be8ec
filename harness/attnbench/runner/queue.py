"""A queue of cells that is shared by all devices of one model."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from attnbench.plan.memory_frontier import LengthOutcome, OutOfMemory, at_length, next_length, series_key
from attnbench.plan.unsupported import SupportAnswers, support_of

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.devices import Device
    from attnbench.record import Record

POLL_S = 0.2


class WorkQueue:
    """The work that remains for the devices of one model. The queue is thread-safe.

    The cells of one workload form a group. One device measures all cells of a group in alternation. If there is only
    one device, it takes the groups in the order of the plan. If there are several devices, they take the groups with
    the most FLOPs first, so that all devices finish at about the same time.

    Searches for memory frontiers start when all groups have been measured. Each search covers one variant and one
    series of lengths. The queue uses the outcomes of finished cells to choose the next length of a search.
    """

    def __init__(self, plan: Plan, devices: list[Device], earlier: Iterable[Record] = ()) -> None:
        self._plan, self.devices = plan, devices
        groups = plan.workload_groups(devices[0])
        if len(devices) > 1:
            groups.sort(key=lambda cells: sum(cell.workload.flops() for cell in cells), reverse=True)
        self._groups = deque(groups)
        self._searches = deque(_searches(plan, devices[0]))
        # For each busy device, the search that it is working on, or None if it is measuring a group.
        self._taken: dict[str, Cell | None] = {}
        self._changed = threading.Condition()
        self._support: SupportAnswers | None = None
        self._outcomes: dict[tuple[str, str], dict[int, LengthOutcome]] = {}
        self.memory = OutOfMemory()
        self.crashes: Counter[str] = Counter()  # key: variant; value: number of crashes
        known = {cell.variant.name: cell for cell in (*plan.cells, *plan.frontier) if cell.device == devices[0]}
        for record in earlier:
            cell = known.get(record.variant)
            # Ignore stale records. Their cell_id differs because the variant, protocol or environment has changed.
            if cell and plan.cell_at(cell, record.workload).cell_id == record.cell_id:
                self.add(record)

    def take(self, device: Device, halted: Callable[[], bool]) -> list[Cell] | None:
        """Return the next group of cells to measure on `device`, or None if no cells are left.

        Also returns None once `halted` returns True. The caller must call `done` when the cells have been measured.
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
                self._changed.wait(POLL_S)  # a search can start only when no device is measuring a group
        return None

    def searching(self, device: Device) -> bool:
        """Return whether the cells that `device` took belong to a search for a memory frontier."""
        return self._taken[device.name] is not None

    def done(self, device: Device) -> None:
        """Mark the cells that `device` took as measured.

        If the cells belong to a search, the search is put back into the queue.
        """
        with self._changed:
            search = self._taken.pop(device.name)
            if search is not None:
                self._searches.appendleft(search)
            self._changed.notify_all()

    def add(self, record: Record) -> None:
        """Use a record's outcome to predict which cells run out of memory and to choose the searches' next lengths."""
        self.memory.add(record)
        if not record.control and record.status != "interrupted":
            series = self._outcomes.setdefault((record.variant, series_key(record.workload)), {})
            series[record.workload.seq_k] = LengthOutcome.from_record(record)

    def support(self) -> SupportAnswers:
        """Return the reasons why variants don't support workloads. Only the first call queries the variants."""
        with self._changed:
            if self._support is None:
                self._support = support_of(self._plan, self.devices[0])
            return self._support

    def _next_search(self, device: Device) -> list[Cell] | None:
        """Return a list with the next cell of the first unfinished search, or None if the queue contains no search."""
        while self._searches:
            search = self._searches.popleft()
            length = next_length(self._outcomes.get((search.variant.name, series_key(search.workload)), {}))
            if length is not None:
                self._taken[device.name] = search
                return [self._plan.cell_at(search, at_length(search.workload, length))]
        return None


def _searches(plan: Plan, device: Device) -> list[Cell]:
    """Return one cell for each search, that is, for each variant and series of lengths in the plan's `frontier`."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in plan.frontier:
        if cell.device == device:
            found.setdefault((cell.variant.name, series_key(cell.workload)), cell)
    return list(found.values())
