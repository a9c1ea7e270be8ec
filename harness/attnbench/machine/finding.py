"""A problem of the machine, and the result of a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, UNKNOWN = "ok", "warning", "unknown"


@dataclass(frozen=True)
class Problem:
    """Why something can't be used, and what would help. As text, it is both, separated by a colon."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}"


@dataclass(frozen=True)
class Finding:
    """The result of one check: `level` is `ok`, `warning` or `unknown`, and every warning has a `remedy`."""

    check: str
    level: str
    found: str
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Return the finding of a check. If the check fails on this system, its finding is unknown."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that fails on this system must not stop the others
        return Finding(name, UNKNOWN, f"the check failed on this system: {error}")


def finding_of(check: str, problem: Problem | None, otherwise: str) -> Finding:
    """Return a warning with the problem or, if there is none, a finding that is ok and says `otherwise`."""
    return Finding(check, OK, otherwise) if problem is None else Finding(check, WARNING, problem.reason, problem.remedy)
