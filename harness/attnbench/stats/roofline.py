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
