"""Run the cells of a plan, with one thread per device. The variants of each workload are measured in alternation."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench import store
from attnbench.interrupts import Interrupts
from attnbench.isolation.worker_process import WorkerProcess
from attnbench.plan.memory_frontier import SEARCHED
from attnbench.record import HARNESS_OUT_OF_MEMORY
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.cell_progress import CellContext
from attnbench.runner.cell_runners import CellRunners
from attnbench.runner.interleaved import InterleavedCells
from attnbench.runner.queue import WorkQueue

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.devices import Device
    from attnbench.record import Record


USEFUL_PHASE = "measure"  # the phase whose time counts towards `useful_share`: sampling, without any check of answers
POLL_S = 0.2


@dataclass
class RunSummary:
    """The result of a run: the number of records by status, and how the time was spent.

    - `useful_share`: the share of the devices' time that was spent on sampling
    - `signal`: the number of the first signal that interrupted the run, or None
    - `refusals`: why machines of a cluster were not used; other machines measured the cells instead
    - `frontier_ends`: the number of `out_of_memory` records in searches for a memory frontier. These records are
      expected and don't count as failures.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0
    useful_share: float = 0.0
    interrupted: bool = False
    signal: int | None = None
    frontier_ends: int = 0
    refusals: list[str] = field(default_factory=list)
    phase_s: dict[str, float] = field(default_factory=dict)  # seconds spent waiting for workers, by phase

    @property
    def failed(self) -> int:
        """The number of cells that failed."""
        done = self.statuses["ok"] + self.statuses["unsupported"] + self.frontier_ends
        return sum(self.statuses.values()) - done

    def extend_to(self, wall_s: float) -> None:
        """Set the wall time to `wall_s`, the duration of the whole run, and lower `useful_share` accordingly.

        The time before the first cell and after the last cell does not count as useful.
        """
        self.useful_share *= self.wall_s / wall_s
        self.wall_s = wall_s


class Scheduler:
    """A single execution of a plan.

    `started` is called with each cell before the cell is measured. `stored` is called with each record once the record
    is on disk.
    """

    def __init__(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        limits: CellLimits | None = None,
    ) -> None:
        self._run, self._plan, self._limits = run, plan, limits or CellLimits()
        self._started, self._stored = started, stored
        self._interrupts = Interrupts(limit=2)
        self._lock = threading.Lock()
        self._phase_seconds: dict[str, float] = {}
        self._errors: list[BaseException] = []
        self._planned = {(cell.variant.name, cell.workload) for cell in (*plan.cells, *plan.frontier)}
        self._frontier = {(cell.variant.name, cell.workload) for cell in plan.frontier}
        self.summary = RunSummary()

    def execute(self) -> RunSummary:
        """Run all cells and return the summary.

        The first signal that asks the process to end (`interrupts.SIGNALS`) stops the run after the current blocks, and
        the second one kills the workers. If an exception is raised in one device's thread, e.g. because the disk is
        full, the other threads stop after their current blocks, and this method then raises the exception.
        """
        began = time.monotonic()
        earlier = list(store.latest(self._run).values())
        queues = [WorkQueue(self._plan, devices, earlier) for devices in self._plan.device_groups]
        side_by_side = [queue for queue in queues if not queue.devices[0].members]
        with self._interrupts.counted():
            self._run_queues(side_by_side)
            for queue in queues:
                if queue not in side_by_side and not self._halted():
                    self._run_queues([queue])  # the members of a team must not measure anything else at the same time
        if self._errors and not self._interrupts.count:
            raise self._errors[0]
        self.summary.wall_s = time.monotonic() - began
        useful = self._phase_seconds.get(USEFUL_PHASE, 0.0)
        self.summary.useful_share = useful / (self.summary.wall_s * max(1, len(self._plan.devices)))
        self.summary.interrupted, self.summary.signal = self._interrupts.count > 0, self._interrupts.first
        self.summary.phase_s = {phase: round(seconds, 3) for phase, seconds in self._phase_seconds.items()}
        return self.summary

    def _run_queues(self, queues: list[WorkQueue]) -> None:
        threads = [
            threading.Thread(target=self._catch_errors, args=(queue, device), daemon=True)
            for queue in queues
            for device in queue.devices
        ]
        for thread in threads:
            thread.start()
        self._wait(threads)

    def _wait(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(POLL_S)
                if self._stop_now():
                    WorkerProcess.end_all()

    def _catch_errors(self, queue: WorkQueue, device: Device) -> None:
        try:
            self._run_device(queue, device)
        except BaseException as error:  # noqa: BLE001 - `execute` raises the error in the main thread
            self._errors.append(error)

    def _run_device(self, queue: WorkQueue, device: Device) -> None:
        writer = store.RecordWriter(self._run, re.sub(r"[:+]", "-", device.name))
        context = CellContext(
            self._run,
            self._plan.protocols[device.kind],
            str(self._plan.environments[device.name]["environment_id"]),
            self._limits,
            queue.crashes,
            self._stop_now,
            len(self._plan.devices),
        )
        runners = CellRunners(context)
        interleaved = InterleavedCells(
            runners, queue, self._announce, lambda record: self._store(writer, queue, record), self._halted
        )
        try:
            while (cells := queue.take(device, self._halted)) is not None:
                try:
                    interleaved.measure(cells, alone=queue.searching(device))
                finally:
                    queue.done(device)
        finally:
            runners.stop()
            writer.close()
        with self._lock:
            for phase, seconds in runners.seconds.items():
                self._phase_seconds[phase] = self._phase_seconds.get(phase, 0.0) + seconds

    def _halted(self) -> bool:
        """Return whether the run must stop before the next block."""
        return self._interrupts.count > 0 or bool(self._errors)

    def _stop_now(self) -> bool:
        """Return whether the run must stop without finishing the current blocks."""
        return self._interrupts.count > 1

    def _announce(self, cell: Cell) -> None:
        with self._lock:
            self._started(cell)

    def _store(self, writer: store.RecordWriter, queue: WorkQueue, record: Record) -> None:
        cell = record.variant, record.workload
        if cell not in self._planned:
            record = dataclasses.replace(record, flags=(*record.flags, SEARCHED))
        writer.append(record)
        with self._lock:
            queue.add(record)
            if not record.control:
                self.summary.statuses[record.status] += 1
                searched = cell in self._frontier or cell not in self._planned
                fits_not = record.status == "out_of_memory" and HARNESS_OUT_OF_MEMORY not in record.flags
                self.summary.frontier_ends += searched and fits_not
            self._stored(record)
