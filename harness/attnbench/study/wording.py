"""Numbers and lists as words, for the sentences of a finding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def listed(parts: Sequence[str]) -> str:
    """Return parts joined as in a sentence: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def number(value: float) -> str:
    """Return a number with three digits, with an exponent only if it is very large or very small."""
    if value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def bytes_text(count: float) -> str:
    """Return a number of bytes in the largest unit that fits."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{number(count / size)} {unit}"
    return f"{count:.0f} bytes"


def exponent(first: tuple[float, float], last: tuple[float, float]) -> float:
    """Return b of the curve y = a * x**b through two points (x, y); all values are above 0, and the two x differ."""
    return math.log(last[1] / first[1]) / math.log(last[0] / first[0])
