"""Per-cell time and memory limits. They don't change what is measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

DEADLINES_S = {"start": 60.0, "import": 180.0, "prepare": 600.0, "first_call": 600.0}
OTHER_DEADLINE_S = 300.0
LOADING_PHASES = ("start", "import")  # a user's limit does not apply here: importing torch is not the variant's time


@dataclass(frozen=True)
class CellLimits:
    """Per-cell time and memory limits.

    - `timeout_s`: seconds that each phase of a cell may last, except for loading; None: `DEADLINES_S`
    - `exhaustive`: also try cells that are predicted to run out of memory
    - `host_memory_bytes`: how much of the machine's main memory a worker may use; None: all except a reserve
    """

    timeout_s: float | None = None
    exhaustive: bool = False
    host_memory_bytes: int | None = None

    def deadline_s(self, phase: str) -> float:
        """Return how many seconds a phase may last."""
        given = None if phase in LOADING_PHASES else self.timeout_s
        return given or DEADLINES_S.get(phase, OTHER_DEADLINE_S)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
