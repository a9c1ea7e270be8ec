"""The time and memory that cells needed in earlier runs, and estimates of the time that a new plan will take."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from attnbench import store
from attnbench.device_names import device_type
from attnbench.errors import AttnbenchError
from attnbench.machine.utc_clock import moment
from attnbench.measure_config import MeasureConfig
from attnbench.plan.estimate import COSTS, CellEstimate
from attnbench.plan.memory_frontier import OutOfMemory, input_bytes
from attnbench.record import STOPPED
from attnbench.untrusted import listing, mapping

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.devices import Device
    from attnbench.record import Record
    from attnbench.workloads.workload import Workload

# Only the latest runs are read, up to these limits, so that reading takes only a second or two.
MAX_RUNS, MAX_BYTES = 50, 1 << 26
# Until this many seconds of a run were expected to have passed, the first estimate counts more than the run's own pace.
PRIOR_S = 5.0
START_S = 1.5  # the time of `attnbench doctor` and of the tests of traits, before and after the cells


@dataclass(frozen=True)
class Timed:
    """A cell of an earlier run: its workload, its settings, and the seconds that it took."""

    workload: Workload
    protocol: MeasureConfig
    seconds: float


@dataclass(frozen=True)
class TimeEstimate:
    """The estimated time of a run.

    - `total_s`: the seconds of the whole run
    - `groups`: the seconds of all cells of each workload on each device or group of devices that share the cells, by
      the workload's id, without the start of workers and the A/A controls. One workload may occur several times.
    """

    total_s: float
    groups: Sequence[tuple[str, float]] = ()

    @functools.cached_property
    def work_s(self) -> float:
        """The seconds of all cells."""
        return sum(seconds for _, seconds in self.groups)

    @functools.cached_property
    def seconds(self) -> Mapping[str, float]:
        """The seconds of all cells of each workload on one device, by the workload's id."""
        return dict(self.groups)

    def left_s(self, done: int, done_s: float, elapsed_s: float) -> float:
        """Return the estimated seconds until the run ends, `elapsed_s` seconds after it started.

        `done` is the number of workloads that were measured, where a workload counts once for each device, and `done_s`
        the sum of their `seconds`. If these cells took longer than expected, so will the others, either by the same
        factor or by the same number of seconds for each workload. The returned value is the mean of both.
        """
        share = min(1.0, done_s / self.work_s) if self.work_s else 1.0
        expected_s, left_s = share * self.total_s, (1 - share) * self.total_s
        if not share or share == 1.0:
            return left_s
        by_factor = left_s * (elapsed_s + PRIOR_S) / (expected_s + PRIOR_S)
        more = max(0, len(self.groups) - done) / done  # workloads left for each workload that was measured
        by_difference = left_s + (elapsed_s - expected_s) * more
        return max(0.0, by_factor + by_difference) / 2


class History:
    """The time and memory that each variant needed for each workload on each model of device in earlier runs."""

    def __init__(self, results: Path) -> None:
        self._timed: dict[tuple[str, str, str], Timed] = {}
        self._peaks: dict[tuple[str, str, str], int] = {}
        self._memory: dict[str, OutOfMemory] = {}
        for run in _latest_runs(results):
            self._add(store.read_run(run).records, _protocols(run))

    def _add(self, records: Iterable[Record], protocols: Mapping[str, MeasureConfig]) -> None:
        together: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            together.setdefault((record.workload.id, record.device), []).append(record)
        for group in together.values():
            tried = [record for record in group if record.status not in ("unsupported", "interrupted")]
            cells = [record for record in tried if not record.control]
            for record in cells:
                self._memory.setdefault(record.device_name, OutOfMemory()).add(record)
                key = record.variant, record.workload.id, record.device_name
                protocol, span_s = protocols.get(record.device), _span_s(tried)
                stopped = any(STOPPED in other.flags for other in tried)
                if protocol is not None and span_s is not None and not stopped:
                    self._timed[key] = Timed(record.workload, protocol, span_s / len(tried))
                if record.peak_bytes is not None:
                    self._peaks[key] = record.peak_bytes

    def seconds(self, cell: Cell) -> float | None:
        """Return the seconds that a cell took when it was last measured, or None if it was never measured."""
        timed = self._timed.get(_key(cell))
        return None if timed is None else timed.seconds

    def memory_bytes(self, cell: Cell) -> int | None:
        """Return a cell's peak memory in bytes, including its inputs, or None if it was never measured."""
        peak = self._peaks.get(_key(cell))
        return None if peak is None else input_bytes(cell.workload) + peak

    def too_large(self, cell: Cell) -> Workload | None:
        """Return a workload whose failure in an earlier run shows that a cell will not fit in memory.

        The returned workload is no larger than the cell's workload, but on the same model of device, the cell's variant
        ran out of memory on it. Returns None if there is no such workload.
        """
        known = self._memory.get(cell.device.model)
        return known.too_large(cell.variant.name, cell.workload) if known else None

    def estimate(self, plan: Plan, unsupported: Container[str]) -> TimeEstimate:
        """Return the time that a plan is likely to take.

        The seconds of each cell are estimated from its workload and settings (`CellEstimate`), and corrected by the
        ratio of actual to estimated seconds in earlier runs: that of the same cell, else the median ratio of its
        variant, else that of all cells on this model of device. `unsupported` contains the ids of cells that will not
        be timed. Devices that share cells work in parallel, and so do the groups of devices.
        """
        totals, groups = [0.0], defaultdict[tuple[str, str], float](float)
        for devices in plan.device_groups:
            cells = [cell for cell in plan.cells if cell.device == devices[0] and cell.cell_id not in unsupported]
            if cells:
                seconds = self._cell_seconds(plan, devices[0], cells)
                totals.append(START_S + _group_seconds(plan, devices, cells, seconds))
                for cell, spent in zip(cells, seconds, strict=True):
                    groups[devices[0].name, cell.workload.id] += spent
        return TimeEstimate(max(totals), [(workload, spent) for (_, workload), spent in groups.items()])

    def _cell_seconds(self, plan: Plan, device: Device, cells: Sequence[Cell]) -> list[float]:
        """Return the estimated seconds of each cell on a device."""
        estimate = CellEstimate(device, str(plan.environments.get(device.name, {}).get("environment_id")))
        found: dict[tuple[str, ...], list[float]] = {}
        for (variant, workload, model), timed in self._timed.items():
            if model == device.model:
                ratio = timed.seconds / estimate.seconds(timed.workload, timed.protocol)
                for kind in ((variant, workload), (variant,), ()):
                    found.setdefault(kind, []).append(ratio)
        ratios = {kind: median(of_kind) for kind, of_kind in found.items()}
        protocol = plan.protocols[device.kind]
        return [
            estimate.seconds(cell.workload, protocol)
            * next((ratios[kind] for kind in _kinds(cell) if kind in ratios), 1.0)
            for cell in cells
        ]


def _kinds(cell: Cell) -> tuple[tuple[str, ...], ...]:
    """Return the keys of the cells that show how long a cell takes, from the most to the least similar."""
    return (cell.variant.name, cell.workload.id), (cell.variant.name,), ()


def _group_seconds(plan: Plan, devices: list[Device], cells: Sequence[Cell], seconds: Sequence[float]) -> float:
    """Return the estimated seconds of all cells of a group of devices that share them."""
    kind = devices[0].kind
    workers = len({cell.variant.name for cell in cells}) * plan.protocols[kind].processes_on(kind)
    return workers * COSTS[kind].worker_s + sum(seconds) / len(devices)


def _latest_runs(results: Path) -> list[Path]:
    """Return the latest runs within the limits MAX_RUNS and MAX_BYTES, oldest first."""
    chosen: list[Path] = []
    left = MAX_BYTES
    for run in reversed(store.list_runs(results)[-MAX_RUNS:]):
        left -= _record_bytes(run)
        if left < 0:
            break
        chosen.insert(0, run)
    return chosen


def _protocols(run: Path) -> dict[str, MeasureConfig]:
    """Return the settings of a run by name of device, without those that can't be read."""
    protocols = {}
    with contextlib.suppress(AttnbenchError):
        manifest = store.read_manifest(run)
        for device in map(str, listing(manifest.get("devices"))):
            settings = mapping(mapping(manifest.get("protocols")).get(device_type(device)))
            protocols[device] = MeasureConfig.from_json(settings)
    return protocols


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.variant.name, cell.workload.id, cell.device.model


def _span_s(records: Sequence[Record]) -> float | None:
    """Return the seconds from the first start to the last end, or None if one of the times can't be read."""
    times = [moment(text) for record in records for text in (record.started_at, record.ended_at)]
    known = [time for time in times if time is not None]
    return (max(known) - min(known)).total_seconds() if len(known) == len(times) else None


def _record_bytes(run: Path) -> int:
    """Return the total size of a run's record files in bytes, as far as another process does not remove them."""
    total = 0
    for path in run.glob("records-*.jsonl"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
