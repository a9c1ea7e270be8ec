"""What others wrote, made fit to be read: records, manifests and names may come from anybody."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 32  # levels of nesting; a manifest has 6
LARGEST = 2**63 - 1  # whole numbers beyond fit no column
LONGEST = 100_000  # characters of a text


def printable(text: str) -> str:
    """Replace what does not print: terminal escapes, control characters, marks that turn the writing's direction."""
    if text.isprintable():
        return text
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def parse(line: bytes | str) -> Any:
    """Parse JSON of others; raises ValueError for what is none, nests too deep, or holds NaN or an infinity."""
    try:
        return cleaned(json.loads(line, parse_constant=_refuse))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def cleaned(value: Any, depth: int = 0) -> Any:
    """Give a JSON value with all its texts printable; raises ValueError for numbers, texts or nesting beyond bounds."""
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"a text has {len(value)} characters, at most {LONGEST} are read")
        return printable(value)
    if isinstance(value, list):
        return [
            cleaned(item, _deeper(depth)) if isinstance(item, (str, list, dict)) else _bounded(item) for item in value
        ]
    if isinstance(value, dict):
        below = _deeper(depth)
        return {printable(name): cleaned(item, below) for name, item in value.items()}
    return _bounded(value)


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("a whole number is beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is beyond all bounds")
    return value


def _deeper(depth: int) -> int:
    if depth >= DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return depth + 1


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")
