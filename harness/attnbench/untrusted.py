"""What others wrote, made fit to be read: records, manifests and names may come from anybody."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

DEEPEST = 32  # levels of nesting; a manifest has 6
LARGEST = 2**64 - 1  # whole numbers beyond are no JSON that others read
LONGEST = 100_000  # characters of a text
_ALL_BUT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_ALL_BUT_MARKS = _ALL_BUT_BRACKETS.replace(b'"', b"")


def printable(text: str) -> str:
    """Replace what does not print: terminal escapes, control characters, marks that turn the writing's direction."""
    if text.isprintable():
        return text
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def mapping(value: Any) -> dict[str, Any]:
    """Give an object of others as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """Give a list of others as it is, and anything else as an empty one."""
    return value if isinstance(value, list) else []


def parse(line: bytes | str) -> Any:
    """Parse JSON of others; raises ValueError for what is none, nests too deep, or holds NaN or an infinity."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return cleaned(_parsed(line))
    return value if _is_harmless(line) else cleaned(value)


def _parsed(line: bytes | str) -> Any:
    """Parse what the faster parser refuses: most of it is no JSON, but half a surrogate pair may stand in a text."""
    try:
        return json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _is_harmless(line: bytes | str) -> bool:
    """Say of valid JSON, at a glance, that `cleaned` would find nothing; False where a closer look is needed.

    Without a backslash there is no control character, JSON has them escaped, and no text but what stands between two
    quotes. Numbers need no look: the parser makes floats of whole ones that are too large, and refuses infinity.
    """
    data = line.encode() if isinstance(line, str) else line
    if len(data) > LONGEST or not data.isascii() or b"\\" in data or b"\x7f" in data:
        return False
    marks = data.translate(None, _ALL_BUT_MARKS).replace(b'""', b"")
    if b'"' in marks:  # a text holds a bracket
        marks = b"".join(data.split(b'"')[::2]).translate(None, _ALL_BUT_BRACKETS)
    for _ in range(DEEPEST):
        if not marks:
            return True
        marks = marks.replace(b"[]", b"").replace(b"{}", b"")
    return not marks


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
