"""Time and memory limits of a cell. They end cells that take too much, and don't affect how a cell is measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

DEADLINES_S = {"start": 60.0, "import": 180.0, "prepare": 600.0, "first_call": 600.0}
OTHER_DEADLINE_S = 300.0  # for the phases that are not in DEADLINES_S
LOADING_PHASES = ("start", "import")  # `timeout_s` does not apply to these, because the variant can't speed them up


@dataclass(frozen=True)
class CellLimits:
    """Time and memory limits of a cell.

    - `timeout_s`: the longest time that each phase of a cell may take, in seconds. The phases in `LOADING_PHASES`
      always have the deadlines in `DEADLINES_S`; with None, all phases have the default deadlines.
    - `exhaustive`: also try cells that are predicted to run out of memory
    - `host_memory_bytes`: how much of the machine's main memory a worker may use; None allows all except a reserve
    """

    timeout_s: float | None = None
    exhaustive: bool = False
    host_memory_bytes: int | None = None

    def deadline_s(self, phase: str) -> float:
        """Return how long a phase may take, in seconds."""
        given = None if phase in LOADING_PHASES else self.timeout_s
        return given or DEADLINES_S.get(phase, OTHER_DEADLINE_S)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
