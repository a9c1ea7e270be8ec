"""How near a time comes to what the machine itself was measured to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Peaks:
    """Measured limits of one device for one dtype: bytes moved a second by a copy, operations a second by a matmul."""

    copy_bytes_per_s: float
    matmul_flops_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Peaks:
        """Build limits from `to_json`'s fields."""
        return cls(float(fields["copy_bytes_per_s"]), float(fields["matmul_flops_per_s"]))

    def shortest_s(self, flops: int, moved_bytes: int) -> float:
        """Give the seconds below which no implementation of that many FLOPs and bytes gets on this machine.

        The roofline's lower roof (Williams, Waterman and Patterson, 2009, doi:10.1145/1498765.1498785).
        """
        return max(flops / self.matmul_flops_per_s, moved_bytes / self.copy_bytes_per_s)

    def share(self, flops: int, moved_bytes: int, seconds: float) -> float:
        """Give how much of the roofline a time reaches: 1 is all of it.

        Above 1 the bytes never left the cache, or fewer operations than those were executed.
        """
        return self.shortest_s(flops, moved_bytes) / seconds
