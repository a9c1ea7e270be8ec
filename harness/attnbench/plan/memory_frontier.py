"""What fits into a device's memory: byte counts, known failures, and the search for the largest length that fits."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.workloads.cost import DTYPE_BYTES
from attnbench.workloads.workload import AXES

if TYPE_CHECKING:
    from attnbench.record import Record
    from attnbench.workloads.workload import Workload

PREDICTED, SEARCHED = "predicted", "frontier"  # flags of a record
SHORTEST_STEP = 256  # tokens; kernels run well at multiples of this
STEPS = 8  # the largest length is found to within an eighth of its power of two
LONGEST = 1 << 23
LONGEST_CALL_S = 20.0  # a length whose call would take longer is not tried: a cell makes about 20 calls
SIZES = tuple(name for name, axis in AXES.items() if axis.kind is int and not axis.surrounds)


def least_bytes(workload: Workload) -> int:
    """Return the bytes that any implementation holds: inputs, output, and with a backward pass their gradients."""
    return input_bytes(workload) + result_bytes(workload)


def input_bytes(workload: Workload) -> int:
    """Return the bytes of query, key and value, and with a backward pass of the output's gradient."""
    size = DTYPE_BYTES[workload.dtype] * workload.batch
    query = workload.heads * workload.seq_q * workload.head_dim
    keys = workload.kv_heads * workload.seq_k * (workload.head_dim + workload.head_dim_v)
    output = workload.heads * workload.seq_q * workload.head_dim_v if workload.needs_gradient else 0
    return size * (query + keys + output)


def result_bytes(workload: Workload) -> int:
    """Return the bytes of the output, and with a backward pass of the inputs' gradients."""
    output = DTYPE_BYTES[workload.dtype] * workload.batch * workload.heads * workload.seq_q * workload.head_dim_v
    return input_bytes(workload) if workload.needs_gradient else output


class OutOfMemory:
    """The workloads that were tried and ran out of memory, by variant."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._failed: dict[str, list[Workload]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Add a record; only workloads that were actually tried count, not predicted failures."""
        if record.status == "out_of_memory" and PREDICTED not in record.flags:
            self._failed.setdefault(record.variant, []).append(record.workload)

    def too_large(self, variant: str, workload: Workload) -> Workload | None:
        """Return a workload that ran out of memory and is no larger than `workload` (perhaps equal to it), or None."""
        return next((failed for failed in self._failed.get(variant, ()) if no_smaller(workload, failed)), None)

    def predicted_reason(self, variant: str, workload: Workload) -> str | None:
        """Return the reason why a workload is predicted not to fit, or None if nothing smaller ran out of memory."""
        for smaller in self._failed.get(variant, ()):
            if smaller != workload and no_smaller(workload, smaller):
                return (
                    f"predicted, not tried: {smaller.id} ran out of memory, and this is no smaller in any way "
                    "(--exhaustive tries it)"
                )
        return None


def no_smaller(workload: Workload, other: Workload) -> bool:
    """Whether a workload needs at least the memory of `other`.

    All sizes, the dtype and the direction must be equal or larger, and all other fields equal.
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
    """How a cell at one length ended: its status, and the seconds of one call if it was timed."""

    status: str
    call_s: float | None = None

    @classmethod
    def from_record(cls, record: Record) -> LengthOutcome:
        """Take status and median call time from a record."""
        samples = record.samples_ns or record.cold_samples_ns
        return cls(record.status, statistics.median(samples) / 1e9 if samples else None)


def series_key(workload: Workload) -> str:
    """Return a text that is equal for workloads that differ only in length."""
    fields = workload.to_json()
    if fields.pop("seq_k") == fields["seq_q"]:
        fields["seq_q"] = None
    return json.dumps(fields, sort_keys=True)


def at_length(workload: Workload, length: int) -> Workload:
    """Return the workload at another length; where queries are fewer than keys (decoding) only the keys change."""
    queries = length if workload.seq_q == workload.seq_k else workload.seq_q
    return dataclasses.replace(workload, seq_q=queries, seq_k=length)


def next_length(known: Mapping[int, LengthOutcome]) -> int | None:
    """Return the length to try next, or None when the search is over.

    The search doubles while every length fits, halves while none does, and then bisects until the largest length is
    known to within an eighth of its power of two. It also ends at a length that failed in another way (a timeout, for
    example) or whose call would take longer than LONGEST_CALL_S.
    """
    fitting = [length for length, outcome in known.items() if outcome.status == "ok"]
    largest = max(fitting, default=0)
    beyond = [length for length in known if length > largest]
    if not beyond:
        doubled = 2 * largest
        return doubled if 0 < doubled <= LONGEST and _quick(known[largest], 4.0) else None
    end = min(beyond)
    if known[end].status != "out_of_memory":
        return None
    if not fitting:
        halved = end // 2 // SHORTEST_STEP * SHORTEST_STEP
        return halved or None
    step = max(SHORTEST_STEP, (1 << (largest.bit_length() - 1)) // STEPS)
    middle = round((largest + end) / 2 / step) * step
    between = middle if largest < middle < end else None
    return between if between and _quick(known[largest], (between / largest) ** 2) else None


def _quick(outcome: LengthOutcome, factor: float) -> bool:
    """Whether a call that takes `factor` times as long as this one stays below LONGEST_CALL_S."""
    return math.isfinite(factor) and (outcome.call_s or 0.0) * factor <= LONGEST_CALL_S
