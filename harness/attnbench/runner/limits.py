"""The limits on which cells run: what they may take of time and memory. They change no number."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

DEADLINES_S = {"start": 60.0, "import": 180.0, "prepare": 600.0, "first_call": 600.0}
OTHER_DEADLINE_S = 300.0
LOADING_PHASES = ("start", "import")  # torch's import is no cell's fault, so a user's limit spares it


@dataclass(frozen=True)
class CellLimits:
    """What cells may take.

    - `timeout_s`: seconds that a phase of a cell may last, but for loading; None: `DEADLINES_S`
    - `exhaustive`: try what is known not to fit in memory, too
    - `host_memory_bytes`: what a worker may take of the machine's own memory; None: all but a reserve
    """

    timeout_s: float | None = None
    exhaustive: bool = False
    host_memory_bytes: int | None = None

    def deadline_s(self, phase: str) -> float:
        """Give the seconds that a phase may last."""
        given = None if phase in LOADING_PHASES else self.timeout_s
        return given or DEADLINES_S.get(phase, OTHER_DEADLINE_S)

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return asdict(self)
