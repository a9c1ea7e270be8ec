"""Works a plan off: one thread a device, variants of one workload side by side in A B B A blocks."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from attnbench.runner.group import Group
from attnbench.runner.lane import Lanes
from attnbench.runner.survey import survey_of
from attnbench.store import RecordWriter

if TYPE_CHECKING:
    from attnbench.record import Record
    from attnbench.runner.devices import Device
    from attnbench.runner.plan import Cell, Plan

DEADLINES_S = {"start": 60.0, "import": 180.0, "prepare": 600.0, "first_call": 600.0}
OTHER_DEADLINE_S = 300.0
LOADING_PHASES = ("start", "import")  # torch's import is no cell's fault, so a user's limit spares it
USEFUL_PHASES = ("first_call", "conform", "warm_up", "measure", "recheck")


@dataclass
class Summary:
    """What a sweep came to: records by status, and where its time went."""

    statuses: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0
    useful_share: float = 0.0
    interrupted: bool = False


class Sweep:
    """One execution of a plan into a run's folder; `stored` is called with each record after it is on disk."""

    def __init__(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        timeout_s: float | None = None,
    ) -> None:
        self._run, self._plan = run, plan
        self._started, self._stored = started, stored
        self._timeout_s = timeout_s
        self._interrupts = 0
        self._lock = threading.Lock()
        self._phase_seconds: dict[str, float] = {}
        self._errors: list[BaseException] = []
        self.summary = Summary()

    def execute(self) -> Summary:
        """Run all cells; SIGINT once ends after the present block, twice at once."""
        began = time.monotonic()
        threads = [threading.Thread(target=self._guarded, args=(device,), daemon=True) for device in self._plan.devices]
        with self._interruptible():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if self._errors:
            raise self._errors[0]
        self.summary.wall_s = time.monotonic() - began
        useful = sum(self._phase_seconds.get(phase, 0.0) for phase in USEFUL_PHASES)
        self.summary.useful_share = useful / (self.summary.wall_s * len(threads)) if threads else 0.0
        self.summary.interrupted = self._interrupts > 0
        return self.summary

    def _guarded(self, device: Device) -> None:
        try:
            self._sweep_device(device)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._errors.append(error)

    def _sweep_device(self, device: Device) -> None:
        writer = RecordWriter(self._run, device.name.replace(":", "-"))
        lanes = Lanes(self._run, self._plan.protocols[device.kind], self._environment_id(device), self._deadline_s)
        group = Group(
            lanes,
            survey_of(self._plan, device),
            self._announce,
            lambda record: self._store(writer, record),
            lambda: self._interrupts > 0,
        )
        try:
            for cells in self._plan.groups(device):
                if self._interrupts:
                    break
                group.measure(cells)
        finally:
            lanes.stop()
            writer.close()
        with self._lock:
            for phase, seconds in lanes.seconds.items():
                self._phase_seconds[phase] = self._phase_seconds.get(phase, 0.0) + seconds

    def _deadline_s(self, phase: str) -> float:
        given = None if phase in LOADING_PHASES else self._timeout_s
        return given or DEADLINES_S.get(phase, OTHER_DEADLINE_S)

    def _environment_id(self, device: Device) -> str:
        return str(self._plan.environments[device.name]["environment_id"])

    def _announce(self, cell: Cell) -> None:
        with self._lock:
            self._started(cell)

    def _store(self, writer: RecordWriter, record: Record) -> None:
        writer.append(record)
        with self._lock:
            if not record.control:
                self.summary.statuses[record.status] += 1
            self._stored(record)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
