"""Check that the memory, the descriptors and the threads of a run's processes do not grow with the number of cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.stats import linregress

from attnbench.runner.places import WORKER_BYTES

if TYPE_CHECKING:
    from process_samples import ProcessSample

WARM_UP_SHARE = 0.25  # the share of the records that is stored before growth counts
MIN_SAMPLES = 20  # of a process, after the warm-up
# The bounds on growth: bytes of unshared memory for each record of the run, and descriptors for each 1,000 records. The
# supervisor keeps the outcome of each cell, from which it predicts others. A fork server keeps nothing. Libraries keep
# what they prepare for each shape, so a worker has another bound: it is replaced when it has grown by WORKER_BYTES.
MAX_BYTES_PER_RECORD = {"supervisor": 4096.0, "fork server": 1024.0}
MAX_WORKER_GROWTH = 1.25 * WORKER_BYTES["cpu"]  # the growth during the last cell before the replacement included
MAX_DESCRIPTORS_PER_1000_RECORDS = 0.5


@dataclass(frozen=True)
class Growth:
    """The growth of one process after the warm-up, for each record that was stored in this time.

    - `first_bytes`, `last_bytes`: memory at the start and at the end: what no other process shares or, for a fork
      server, all resident memory, because its memory becomes unshared when its workers change their copies
    - `bytes_per_record`: the slope of the memory
    - `descriptors_per_record`: the slope of the number of descriptors
    - `cpu_s_per_record`: the mean CPU time in seconds per record, in the first and in the last third
    """

    role: str
    pid: int
    records: int
    first_bytes: int
    last_bytes: int
    bytes_per_record: float
    descriptors_per_record: float
    most_descriptors: int
    most_threads: int
    cpu_s_per_record: tuple[float, float]

    @property
    def problems(self) -> list[str]:
        """What grows faster than the bounds allow."""
        found = []
        bound = MAX_BYTES_PER_RECORD.get(self.role, math.inf)
        if self.role == "worker" and self.last_bytes - self.first_bytes > MAX_WORKER_GROWTH:
            found.append(f"{self.role} {self.pid} grew from {self.first_bytes} to {self.last_bytes} bytes")
        if self.bytes_per_record > bound:
            found.append(
                f"{self.role} {self.pid} grows by {self.bytes_per_record:.0f} bytes per record; at most {bound:.0f} is "
                "expected"
            )
        if self.descriptors_per_record * 1000 > MAX_DESCRIPTORS_PER_1000_RECORDS:
            found.append(
                f"{self.role} {self.pid} opens {self.descriptors_per_record * 1000:.1f} descriptors per 1,000 records; "
                f"expected at most {MAX_DESCRIPTORS_PER_1000_RECORDS:g}"
            )
        return found


def growths(samples: Sequence[ProcessSample]) -> list[Growth]:
    """Return the growth of each process that has enough samples between the end of the warm-up and the last record."""
    total = max((sample.records for sample in samples), default=0)
    steady = [sample for sample in samples if WARM_UP_SHARE * total <= sample.records < total]
    by_process: Mapping[int, list[ProcessSample]] = defaultdict(list)
    for sample in steady:
        by_process[sample.pid].append(sample)
    return [
        _growth(of_process)
        for of_process in by_process.values()
        if len(of_process) >= MIN_SAMPLES and of_process[0].role != "other"
    ]


def _growth(samples: Sequence[ProcessSample]) -> Growth:
    records = [sample.records for sample in samples]
    memory = [sample.rss if sample.role == "fork server" else sample.uss for sample in samples]
    third = len(samples) // 3
    return Growth(
        role=samples[0].role,
        pid=samples[0].pid,
        records=records[-1] - records[0],
        first_bytes=memory[0],
        last_bytes=memory[-1],
        bytes_per_record=_slope(records, memory),
        descriptors_per_record=_slope(records, [sample.descriptors for sample in samples]),
        most_descriptors=max(sample.descriptors for sample in samples),
        most_threads=max(sample.threads for sample in samples),
        cpu_s_per_record=(_cpu_s_per_record(samples[: third + 1]), _cpu_s_per_record(samples[-third - 1 :])),
    )


def _slope(records: Sequence[int], values: Sequence[int]) -> float:
    return float(linregress(records, values).slope) if len(set(records)) > 1 else 0.0


def _cpu_s_per_record(samples: Sequence[ProcessSample]) -> float:
    first, last = samples[0], samples[-1]
    return (last.cpu_s - first.cpu_s) / max(1, last.records - first.records)
