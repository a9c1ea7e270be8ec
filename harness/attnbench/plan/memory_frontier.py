"""The memory frontier: the sizes of workloads, known failures, and the search for the largest length that fits."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.record import HARNESS_OUT_OF_MEMORY
from attnbench.workloads.cost import DTYPE_BYTES
from attnbench.workloads.workload import AXES

if TYPE_CHECKING:
    from attnbench.record import Record
    from attnbench.workloads.workload import Workload

PREDICTED = "predicted"  # the flag of a record whose cell was not tried because it was predicted not to fit in memory
SEARCHED = "frontier"  # the flag of a record whose cell was part of the search for the largest length that fits
MIN_STEP = 256  # in tokens; most kernels run efficiently if the length is a multiple of 256
STEPS_PER_DOUBLING = 8  # between successive powers of two, only multiples of an eighth of the lower one are tried
MAX_LENGTH = 1 << 23  # in tokens
MAX_CALL_S = 20.0  # longer calls are not tried, because each cell makes about 20 calls
SIZES = tuple(name for name, axis in AXES.items() if axis.kind is int and not axis.surrounds)


def least_bytes(workload: Workload) -> int:
    """Return the minimum number of bytes that any implementation needs.

    This is the size of the inputs and the output and, with a backward pass, of their gradients.
    """
    return input_bytes(workload) + result_bytes(workload)


def input_bytes(workload: Workload) -> int:
    """Return the size in bytes of the query, key and value and, with a backward pass, of the output's gradient."""
    size = DTYPE_BYTES[workload.dtype] * workload.batch
    query = workload.heads * workload.seq_q * workload.head_dim
    keys = workload.kv_heads * workload.seq_k * (workload.head_dim + workload.head_dim_v)
    output = workload.heads * workload.seq_q * workload.head_dim_v if workload.needs_gradient else 0
    return size * (query + keys + output)


def result_bytes(workload: Workload) -> int:
    """Return the size in bytes of the output and, with a backward pass, of the inputs' gradients."""
    output = DTYPE_BYTES[workload.dtype] * workload.batch * workload.heads * workload.seq_q * workload.head_dim_v
    return input_bytes(workload) if workload.needs_gradient else output


class OutOfMemory:
    """The workloads on which each variant ran out of memory."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._failed: dict[str, list[Workload]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Add a record's workload if its variant ran out of memory.

        Predicted failures are ignored, and failures in which the harness ran out of memory.
        """
        if record.status == "out_of_memory" and {PREDICTED, HARNESS_OUT_OF_MEMORY}.isdisjoint(record.flags):
            self._failed.setdefault(record.variant, []).append(record.workload)

    def too_large(self, variant: str, workload: Workload) -> Workload | None:
        """Return a workload on which the variant ran out of memory and which is no larger than `workload`.

        Returns None if there is no such workload.
        """
        return next((failed for failed in self._failed.get(variant, ()) if no_smaller(workload, failed)), None)

    def predicted_reason(self, variant: str, workload: Workload) -> str | None:
        """Return why the variant is predicted to run out of memory on a workload.

        Returns None if the variant is not predicted to run out of memory.
        """
        for smaller in self._failed.get(variant, ()):
            if smaller != workload and no_smaller(workload, smaller):
                return (
                    f"predicted, not tried: {smaller.id} ran out of memory, and this workload is at least as "
                    "large in every way (--exhaustive tries it)"
                )
        return None


def no_smaller(workload: Workload, other: Workload) -> bool:
    """Return whether a workload needs at least as much memory as `other`.

    That is the case if all its sizes and its dtype are at least as large, it has a backward pass if `other` has one,
    and all other fields except `scale` are equal.
    """
    sizes = all(getattr(workload, name) >= getattr(other, name) for name in SIZES)
    widths = DTYPE_BYTES[workload.dtype] >= DTYPE_BYTES[other.dtype]
    rest = [
        {name: value for name, value in each.to_json().items() if name not in (*SIZES, "dtype", "direction", "scale")}
        for each in (workload, other)
    ]
    return sizes and widths and workload.needs_gradient >= other.needs_gradient and rest[0] == rest[1]


@dataclass(frozen=True)
class LengthOutcome:
    """The outcome of a cell at one length: its status and, if the cell was timed, the duration of a call in seconds."""

    status: str
    call_s: float | None = None

    @classmethod
    def from_record(cls, record: Record) -> LengthOutcome:
        """Return the outcome that a record describes: its status and its median call time.

        If the harness ran out of memory, the status is `error`, because the variant might have fitted.
        """
        samples = record.samples_ns or record.cold_samples_ns
        status = "error" if HARNESS_OUT_OF_MEMORY in record.flags else record.status
        return cls(status, statistics.median(samples) / 1e9 if samples else None)


def series_key(workload: Workload) -> str:
    """Return a string that is the same for all workloads that differ only in length."""
    fields = workload.to_json()
    if fields.pop("seq_k") == fields["seq_q"]:
        fields["seq_q"] = None
    return json.dumps(fields, sort_keys=True)


def at_length(workload: Workload, length: int) -> Workload:
    """Return a copy of a workload with a different length.

    If the numbers of queries and keys differ, as in decoding, only the number of keys changes.
    """
    queries = length if workload.seq_q == workload.seq_k else workload.seq_q
    return dataclasses.replace(workload, seq_q=queries, seq_k=length)


def next_length(known: Mapping[int, LengthOutcome]) -> int | None:
    """Return the length to try next, or None when the search is over.

    The search doubles the length while every length fits, halves it while none fits, and then bisects. It is over when
    the largest length that fits is known to within an eighth of the largest power of two that does not exceed it. It
    ends early if a length fails for a reason other than memory, such as a timeout, or if the next call would take
    longer than MAX_CALL_S.
    """
    fitting = [length for length, outcome in known.items() if outcome.status == "ok"]
    largest = max(fitting, default=0)
    beyond = [length for length in known if length > largest]
    if not beyond:
        doubled = 2 * largest
        return doubled if 0 < doubled <= MAX_LENGTH and _quick(known[largest], 4.0) else None
    end = min(beyond)
    if known[end].status != "out_of_memory":
        return None
    if not fitting:
        halved = end // 2 // MIN_STEP * MIN_STEP
        return halved or None
    step = max(MIN_STEP, (1 << (largest.bit_length() - 1)) // STEPS_PER_DOUBLING)
    middle = round((largest + end) / 2 / step) * step
    between = middle if largest < middle < end else None
    return between if between and _quick(known[largest], (between / largest) ** 2) else None


def _quick(outcome: LengthOutcome, factor: float) -> bool:
    """Return whether a call that takes `factor` times as long as the call in `outcome` takes at most MAX_CALL_S."""
    return math.isfinite(factor) and (outcome.call_s or 0.0) * factor <= MAX_CALL_S
