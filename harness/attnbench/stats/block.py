"""What the sampler hands back: plain values that travel as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TAGGED_LIMIT = 0.10  # share of samples taken under throttling from which the cell is marked
CLOCK_TOLERANCE = 0.02


@dataclass(frozen=True)
class WarmUp:
    """A warm-up: whether it ended `steady` (else at its cap), nanoseconds a call then took, calls, and wall time.

    `cpu_share` is CPU time over wall time: near 0 while sleeping, and not while waiting for a busy machine's cores.
    """

    steady: bool
    ns_per_call: float
    calls: int
    elapsed_ns: float
    cpu_share: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Block:
    """One block of samples.

    - `samples_ns`: nanoseconds a call, in order, at least one; each is the mean over `calls_per_sample` calls
    - `wall_ns`: wall time of the whole block, which a supervisor can check against its own clock
    - `device_ns`, `synchronised_ns`: one further call by device events, and by wall time to an all-device
      synchronise; None where the device has no clock of its own
    - `telemetry`: the machine's state over the block; `throttled` tags a block in which it says so
    - `suspects`: findings that make the cell doubtful, each `name: what was seen`
    """

    samples_ns: list[float]
    calls_per_sample: int
    wall_ns: float
    device_ns: float | None = None
    synchronised_ns: float | None = None
    telemetry: dict[str, Any] = field(default_factory=dict)
    throttled: bool = False
    suspects: tuple[str, ...] = ()

    def contradicts(self, seen_ns: float) -> str | None:
        """Say what of the block does not fit the time that somebody outside the worker saw pass; None: all does."""
        if self.wall_ns > seen_ns * (1 + CLOCK_TOLERANCE):
            return (
                f"patched clock: the block took {self.wall_ns / 1e6:.3f} ms by the worker's clock, "
                f"{seen_ns / 1e6:.3f} ms by its supervisor's"
            )
        timed = sum(self.samples_ns) * self.calls_per_sample
        if timed > self.wall_ns * (1 + CLOCK_TOLERANCE):
            return f"samples of {timed / 1e6:.3f} ms do not fit into a block of {self.wall_ns / 1e6:.3f} ms"
        return None

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Block:
        """Build a block from `to_json`'s fields."""
        return cls(**{**fields, "suspects": tuple(fields["suspects"])})


def tagged_share(telemetry: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> float:
    """Give the share of samples that lie in blocks whose telemetry says that something slowed the machine down."""
    tagged = sum(size for block, size in zip(telemetry, sizes, strict=True) if block.get("throttle"))
    return tagged / max(1, sum(sizes))
