"""Numbers as a finding's sentences need them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def listed(parts: Sequence[str]) -> str:
    """Join parts as a sentence does: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def number(value: float) -> str:
    """Write a number with three digits, without an exponent where people write none."""
    if value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def bytes_text(count: float) -> str:
    """Write bytes in the unit that leaves few digits."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{number(count / size)} {unit}"
    return f"{count:.0f} bytes"


def exponent(first: tuple[float, float], last: tuple[float, float]) -> float:
    """Give b of y = a * x**b through two points with x and y above 0 and different x."""
    return math.log(last[1] / first[1]) / math.log(last[0] / first[0])
