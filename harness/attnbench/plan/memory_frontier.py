"""How far memory reaches: what is known not to fit, and the search for the largest length that does."""

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
SHORTEST_STEP = 256  # tokens: lengths that kernels like
STEPS = 8  # of a length's power of two: the frontier is found to an eighth of that
LONGEST = 1 << 23
LONGEST_CALL_S = 20.0  # a length whose call would take longer is not tried: a cell takes some 20 calls
SIZES = tuple(name for name, axis in AXES.items() if axis.kind is int and not axis.surrounds)


class OutOfMemory:
    """The workloads that were tried and ran out of memory, by variant."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._met: dict[str, list[Workload]] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: Record) -> None:
        """Take in a record; only what was really tried counts."""
        if record.status == "out_of_memory" and PREDICTED not in record.flags:
            self._met.setdefault(record.variant, []).append(record.workload)

    def too_large(self, variant: str, workload: Workload) -> Workload | None:
        """Find a workload that ran out of memory and that this one is no smaller than; it may be this very one."""
        return next((met for met in self._met.get(variant, ()) if no_smaller(workload, met)), None)

    def rule(self, variant: str, workload: Workload) -> str | None:
        """Say why a workload will not fit, or None: it is no smaller in any way than one that did not."""
        for smaller in self._met.get(variant, ()):
            if smaller != workload and no_smaller(workload, smaller):
                return (
                    f"predicted, not tried: {smaller.id} ran out of memory, and this is no smaller in any way "
                    "(--exhaustive tries it)"
                )
        return None


def no_smaller(workload: Workload, other: Workload) -> bool:
    """Whether a workload is the same as `other` but for being as large or larger: no size, dtype or direction less."""
    sizes = all(getattr(workload, name) >= getattr(other, name) for name in SIZES)
    numbers = DTYPE_BYTES[workload.dtype] >= DTYPE_BYTES[other.dtype]
    alike = [
        {name: value for name, value in each.to_json().items() if name not in (*SIZES, "dtype", "direction", "scale")}
        for each in (workload, other)
    ]
    return sizes and numbers and workload.needs_gradient >= other.needs_gradient and alike[0] == alike[1]


@dataclass(frozen=True)
class Outcome:
    """What became of one length: its status, and the seconds of one call."""

    status: str
    call_s: float | None = None

    @classmethod
    def of(cls, record: Record) -> Outcome:
        """Take it from a record."""
        samples = record.samples_ns or record.cold_samples_ns
        return cls(record.status, statistics.median(samples) / 1e9 if samples else None)


def series_of(workload: Workload) -> str:
    """Name what workloads have in common that differ in length alone."""
    fields = workload.to_json()
    if fields.pop("seq_k") == fields["seq_q"]:
        fields["seq_q"] = None
    return json.dumps(fields, sort_keys=True)


def at_length(workload: Workload, length: int) -> Workload:
    """Give the workload at another length: of keys alone where queries are fewer, as in decoding."""
    queries = length if workload.seq_q == workload.seq_k else workload.seq_q
    return dataclasses.replace(workload, seq_q=queries, seq_k=length)


def next_length(known: Mapping[int, Outcome]) -> int | None:
    """Give the length to try next, or None: the frontier is found to an eighth of its power of two, or out of reach.

    Doubles while all fits, halves while nothing does, and then bisects. A length that ended in any other way (a
    timeout, say), or whose call would take over LONGEST_CALL_S, is as far as the search goes.
    """
    fitting = [length for length, outcome in known.items() if outcome.status == "ok"]
    most = max(fitting, default=0)
    beyond = [length for length in known if length > most]
    if not beyond:
        wanted = 2 * most
        return wanted if 0 < wanted <= LONGEST and _quick(known[most], 4.0) else None
    end = min(beyond)
    if known[end].status != "out_of_memory":
        return None
    if not fitting:
        halved = end // 2 // SHORTEST_STEP * SHORTEST_STEP
        return halved or None
    step = max(SHORTEST_STEP, (1 << (most.bit_length() - 1)) // STEPS)
    middle = round((most + end) / 2 / step) * step
    between = middle if most < middle < end else None
    return between if between and _quick(known[most], (between / most) ** 2) else None


def _quick(outcome: Outcome, factor: float) -> bool:
    return math.isfinite(factor) and (outcome.call_s or 0.0) * factor <= LONGEST_CALL_S
