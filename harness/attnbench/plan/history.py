"""What cells took of time and memory before, and so what a plan will take."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench import store
from attnbench.plan.estimate import seconds_of
from attnbench.plan.memory_frontier import OutOfMemory
from attnbench.workloads.cost import DTYPE_BYTES

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.record import Record
    from attnbench.workloads.workload import Workload

MOST_RUNS, MOST_BYTES = 50, 1 << 26  # of the past, the latest ones: as much as is read in a second or two


class Past:
    """Past records of the runs in a results folder, by variant, workload and model of device."""

    def __init__(self, results: Path) -> None:
        self._seconds: dict[tuple[str, str, str], float] = {}
        self._peaks: dict[tuple[str, str, str], int] = {}
        self._memory: dict[str, OutOfMemory] = {}
        for run in _latest_runs(results):
            self._learn(store.read_run(run).records)

    def _learn(self, records: Iterable[Record]) -> None:
        together: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            together.setdefault((record.workload.id, record.device), []).append(record)
        for group in together.values():
            tried = [record for record in group if record.status not in ("unsupported", "interrupted")]
            cells = [record for record in tried if not record.control]
            for record in cells:
                self._memory.setdefault(record.device_name, OutOfMemory()).learn(record)
                key = record.variant, record.workload.id, record.device_name
                self._seconds[key] = _span_s(tried) / len(cells)
                if record.peak_bytes is not None:
                    self._peaks[key] = record.peak_bytes

    def seconds(self, cell: Cell) -> float | None:
        """Give the seconds that a cell took when it was last measured; None if it never was."""
        return self._seconds.get(_key(cell))

    def memory_bytes(self, cell: Cell) -> int | None:
        """Give the bytes that a cell held at most, inputs included; None if it was never measured."""
        peak = self._peaks.get(_key(cell))
        return None if peak is None else input_bytes(cell.workload) + peak

    def too_large(self, cell: Cell) -> Workload | None:
        """Find a workload that ran out of memory on such a device and that the cell's is no smaller than."""
        known = self._memory.get(cell.device.model)
        return known.too_large(cell.variant.name, cell.workload) if known else None

    def seconds_of(self, plan: Plan, unsupported: Container[str]) -> float:
        """Estimate the seconds that a plan takes: what its cells took before, and for the others what is usual."""
        known = {cell.cell_id: seconds for cell in plan.cells if (seconds := self.seconds(cell)) is not None}
        unknown = tuple(cell for cell in plan.cells if cell.cell_id not in known)
        spent = [
            sum(known.get(cell.cell_id, 0.0) for cell in plan.cells if cell.device == pool[0]) / len(pool)
            for pool in plan.pools
        ]
        return max(spent, default=0.0) + seconds_of(dataclasses.replace(plan, cells=unknown), unsupported)


def _latest_runs(results: Path) -> list[Path]:
    """List the latest runs that are quickly read, oldest first."""
    chosen: list[Path] = []
    left = MOST_BYTES
    for run in reversed(store.list_runs(results)[-MOST_RUNS:]):
        left -= sum(path.stat().st_size for path in run.glob("records-*.jsonl"))
        if left < 0:
            break
        chosen.insert(0, run)
    return chosen


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.variant.name, cell.workload.id, cell.device.model


def least_bytes(workload: Workload) -> int:
    """Count the bytes that any implementation holds: inputs, output, and their gradients where there is a backward."""
    return input_bytes(workload) + result_bytes(workload)


def input_bytes(workload: Workload) -> int:
    """Count the bytes of query, key and value, and of the output's gradient where there is a backward pass."""
    size = DTYPE_BYTES[workload.dtype] * workload.batch
    query = workload.heads * workload.seq_q * workload.head_dim
    keys = workload.kv_heads * workload.seq_k * (workload.head_dim + workload.head_dim_v)
    output = workload.heads * workload.seq_q * workload.head_dim_v if workload.needs_gradient else 0
    return size * (query + keys + output)


def result_bytes(workload: Workload) -> int:
    """Count the bytes of the output, and of the inputs' gradients where there is a backward pass."""
    output = DTYPE_BYTES[workload.dtype] * workload.batch * workload.heads * workload.seq_q * workload.head_dim_v
    return input_bytes(workload) if workload.needs_gradient else output


def _span_s(records: list[Record]) -> float:
    began = min(datetime.fromisoformat(record.started_at) for record in records)
    ended = max(datetime.fromisoformat(record.ended_at) for record in records)
    return max(0.0, (ended - began).total_seconds())
