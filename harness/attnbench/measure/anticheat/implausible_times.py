"""Detection of measured times that contradict each other: patched clocks, a slow warm-up, work on other streams."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from attnbench.messages import CLOCK_TOLERANCE, Suspicion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.measure.sampler import WarmUp

SIDE_STREAM_GAP = 0.10
SLOW_WARM_UP_RATIO = 2.0
SLEEPING_CPU_SHARE = 0.25  # CPU time over wall time of a warm-up that slept


def patched_clock(wall_ns: float, shortest_ns: float, longest_ns: float) -> str | None:
    """Return a finding if the block's wall time does not lie within the bounds that the system's second clock gives."""
    if shortest_ns * (1 - CLOCK_TOLERANCE) <= wall_ns <= longest_ns * (1 + CLOCK_TOLERANCE):
        return None
    return (
        f"patched clock: the block took {wall_ns / 1e6:.3f} ms by the sampler's clock, {shortest_ns / 1e6:.3f} to "
        f"{longest_ns / 1e6:.3f} ms by the system's"
    )


def slow_warm_up(warm_up: WarmUp, samples: Sequence[float]) -> str | None:
    """Return a finding if calls slept in the warm-up and take far less time now, which would reduce the samples."""
    if warm_up.cpu_share >= SLEEPING_CPU_SHARE or median(samples) * SLOW_WARM_UP_RATIO >= warm_up.ns_per_call:
        return None
    return (
        f"slow warm-up: calls took {warm_up.ns_per_call / 1e3:.1f} us while warming up, but "
        f"{median(samples) / 1e3:.1f} us when timed; sleeping there would shrink the number of samples"
    )


def side_stream(device_ns: float, synchronised_ns: float, launch_floor_ns: float) -> Suspicion | None:
    """Return a suspicion if a call took much longer to a full synchronise than by events on the current stream."""
    if synchronised_ns - device_ns <= launch_floor_ns + SIDE_STREAM_GAP * device_ns:
        return None
    finding = (
        f"a call took {device_ns / 1e3:.1f} us by device events, but {synchronised_ns / 1e3:.1f} us of wall "
        f"time to an all-device synchronise (launch floor {launch_floor_ns / 1e3:.1f} us)"
    )
    return Suspicion("side_stream", finding)
