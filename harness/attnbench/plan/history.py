"""The time and memory that cells needed in earlier runs, and estimates of the time that a new plan will take."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench import store
from attnbench.plan.memory_frontier import OutOfMemory, input_bytes

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.devices import Device
    from attnbench.record import Record
    from attnbench.workloads.workload import Workload

# Only the latest runs are read, up to these limits, so that reading takes only a second or two.
MAX_RUNS, MAX_BYTES = 50, 1 << 26
# The mean time that a worker takes to import torch and the variant's plugin if two workers start in parallel.
WORKER_START_S = 2.0
# For a small workload, the total time of the warm-up, the conformance checks, and the memory and kernel readings.
CELL_OVERHEAD_S = 1.0


class History:
    """The time and memory that each variant needed for each workload on each model of device in earlier runs."""

    def __init__(self, results: Path) -> None:
        self._seconds: dict[tuple[str, str, str], float] = {}
        self._peaks: dict[tuple[str, str, str], int] = {}
        self._memory: dict[str, OutOfMemory] = {}
        for run in _latest_runs(results):
            self._add(store.read_run(run).records)

    def _add(self, records: Iterable[Record]) -> None:
        together: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            together.setdefault((record.workload.id, record.device), []).append(record)
        for group in together.values():
            tried = [record for record in group if record.status not in ("unsupported", "interrupted")]
            cells = [record for record in tried if not record.control]
            for record in cells:
                self._memory.setdefault(record.device_name, OutOfMemory()).add(record)
                key = record.variant, record.workload.id, record.device_name
                self._seconds[key] = _span_s(tried) / len(cells)
                if record.peak_bytes is not None:
                    self._peaks[key] = record.peak_bytes

    def seconds(self, cell: Cell) -> float | None:
        """Return the seconds that a cell took when it was last measured, or None if it was never measured."""
        return self._seconds.get(_key(cell))

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

    def estimated_seconds(self, plan: Plan, unsupported: Container[str]) -> float:
        """Return the number of seconds that a plan is likely to take.

        A cell that was measured before is assumed to take as long as last time. The time of all other cells is
        estimated from the plan. `unsupported` contains the ids of cells that will not be timed.
        """
        known = {cell.cell_id: seconds for cell in plan.cells if (seconds := self.seconds(cell)) is not None}
        unknown = tuple(cell for cell in plan.cells if cell.cell_id not in known)
        spent = [
            sum(known.get(cell.cell_id, 0.0) for cell in plan.cells if cell.device == devices[0]) / len(devices)
            for devices in plan.device_groups
        ]
        return max(spent, default=0.0) + estimated_seconds(dataclasses.replace(plan, cells=unknown), unsupported)


def estimated_seconds(plan: Plan, unsupported: Container[str]) -> float:
    """Return the number of seconds that a plan is likely to take if none of its cells has been measured before.

    The devices work in parallel. Each cell is assumed to use its whole sampling budget. Cells that reach their
    precision early use less of it, which makes up for long warm-ups. The A/A control counts as one more cell for each
    workload. `unsupported` contains the ids of cells that will not be timed.
    """
    return max((_group_seconds(plan, unsupported, devices) for devices in plan.device_groups), default=0.0)


def _group_seconds(plan: Plan, unsupported: Container[str], devices: list[Device]) -> float:
    cells = [cell for cell in plan.cells if cell.device == devices[0] and cell.cell_id not in unsupported]
    if not cells:
        return 0.0
    protocol = plan.protocols[cells[0].device.kind]
    controls = len({cell.workload for cell in cells}) if protocol.interleave else 0
    workers = len({cell.variant.name for cell in cells}) + min(1, controls)
    timed = (len(cells) + controls) * (protocol.budget_s + CELL_OVERHEAD_S)
    return workers * WORKER_START_S + timed / len(devices)


def _latest_runs(results: Path) -> list[Path]:
    """Return the latest runs within the limits MAX_RUNS and MAX_BYTES, oldest first."""
    chosen: list[Path] = []
    left = MAX_BYTES
    for run in reversed(store.list_runs(results)[-MAX_RUNS:]):
        left -= sum(path.stat().st_size for path in run.glob("records-*.jsonl"))
        if left < 0:
            break
        chosen.insert(0, run)
    return chosen


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.variant.name, cell.workload.id, cell.device.model


def _span_s(records: list[Record]) -> float:
    began = min(datetime.fromisoformat(record.started_at) for record in records)
    ended = max(datetime.fromisoformat(record.ended_at) for record in records)
    return max(0.0, (ended - began).total_seconds())
