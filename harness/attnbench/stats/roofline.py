"""The roofline: how close a time comes to the peak rates that were measured on the machine itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Peaks:
    """Measured peak rates of one device for one dtype: bytes per second of a copy, FLOPs per second of a matmul."""

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
        """Return the time in seconds that so many FLOPs and moved bytes take at least, at the peak rates.

        It is the time at the lower of the two roofs of the roofline model (Williams, Waterman and Patterson, 2009,
        doi:10.1145/1498765.1498785).
        """
        return max(flops / self.matmul_flops_per_s, moved_bytes / self.copy_bytes_per_s)

    def share(self, flops: int, moved_bytes: int, seconds: float) -> float:
        """Return which share of the roofline a time of `seconds` reaches; 1 is the roof itself.

        It is above 1 where the data stayed in the cache, or where fewer operations were executed than counted.
        """
        return self.shortest_s(flops, moved_bytes) / seconds
