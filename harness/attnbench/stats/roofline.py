"""The roofline model, which shows how close a measured time comes to the limit set by the machine's peak rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Peaks:
    """The measured peak rates of one device for one dtype, in bytes per second (copy) and FLOPs per second (matmul)."""

    copy_bytes_per_s: float
    matmul_flops_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Peaks:
        """Build the peak rates from the fields that `to_json` returned."""
        return cls(float(fields["copy_bytes_per_s"]), float(fields["matmul_flops_per_s"]))

    def shortest_s(self, flops: int, moved_bytes: int) -> float:
        """Return the shortest possible time in seconds for a number of FLOPs and bytes moved, at the peak rates.

        This is the bound of the roofline model (Williams, Waterman and Patterson, 2009, doi:10.1145/1498765.1498785).
        """
        return max(flops / self.matmul_flops_per_s, moved_bytes / self.copy_bytes_per_s)

    def share(self, flops: int, moved_bytes: int, seconds: float) -> float:
        """Return `shortest_s` divided by `seconds`. The share is 1 if the call reaches the roofline.

        The share exceeds 1 if data stayed in the cache, or if the call executed fewer operations than `flops`.
        """
        return self.shortest_s(flops, moved_bytes) / seconds


# A time is implausible if the work would need more than this many times the machine's highest measured rates.
IMPLAUSIBLE_FACTOR = 2.0
# Kernels may use units that the measured product of matrices does not use: tensor cores may multiply float32 in several
# passes of TF32, and quantised variants multiply numbers of 8 or 4 bits. They are granted this many times the rate.
FASTER_UNITS = {"float32": 4.0, "quantised": 4.0}
# Data that is smaller than this many times the last-level cache may stay there from one call to the next.
CACHED_FACTOR = 4


@dataclass(frozen=True)
class MachineLimits:
    """The measured limits of one device.

    - `peaks`: the peak rates by dtype
    - `cache_bytes`: the size of the last-level cache, or None if it is unknown
    """

    peaks: Mapping[str, Peaks]
    cache_bytes: int | None = None

    def implausible_time(
        self, seconds: float, *, dtype: str, tier: str | None, flops: int, moved_bytes: int, flushed: bool
    ) -> str | None:
        """Return why a call can't have taken only `seconds`, or None if it can, or if too little is known.

        `flops` and `moved_bytes` are the least that the call must compute and move, `tier` is the variant's tier, and
        `flushed` says whether the cache was flushed before the call. The highest rate of any dtype counts, because a
        kernel may compute in another dtype than that of its inputs.
        """
        if dtype not in self.peaks or "float32" not in self.peaks:
            return None
        flops_rate = max(peaks.matmul_flops_per_s for peaks in self.peaks.values())
        flops_rate *= FASTER_UNITS.get(dtype, 1.0) * FASTER_UNITS.get(tier or "", 1.0)
        copy_rate = max(peaks.copy_bytes_per_s for peaks in self.peaks.values())
        in_memory = flushed or (self.cache_bytes is not None and moved_bytes > CACHED_FACTOR * self.cache_bytes)
        computing, moving = flops / flops_rate, moved_bytes / copy_rate if in_memory else 0.0
        if seconds * IMPLAUSIBLE_FACTOR >= max(computing, moving):
            return None
        work = f"computing {flops:.3g} FLOPs" if computing > moving else f"moving {moved_bytes:.3g} bytes"
        return (
            f"too fast: a call took {seconds * 1e6:.3g} us, but at the machine's measured rates, {work} takes at least "
            f"{max(computing, moving) * 1e6:.3g} us. To check, look for work that the call leaves out, or that it does "
            "while it is not timed. If the machine was busy when its rates were measured, delete their cache"
        )
