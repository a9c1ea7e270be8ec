"""Safe reading of records, manifests and names that may come from other people."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

DEEPEST = 32  # levels of nesting; a manifest has 6
LARGEST = 2**64 - 1  # other parsers of JSON do not read larger integers
LONGEST = 100_000  # characters of a text
_ALL_BUT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_ALL_BUT_MARKS = _ALL_BUT_BRACKETS.replace(b'"', b"")


def printable(text: str) -> str:
    """Replace characters that do not print by `?`: terminal escapes, control characters, marks of text direction."""
    if text.isprintable():
        return text
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def mapping(value: Any) -> dict[str, Any]:
    """Return a value that is a dict unchanged, and an empty dict for any other value."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """Return a value that is a list unchanged, and an empty list for any other value."""
    return value if isinstance(value, list) else []


def parse(line: bytes | str) -> Any:
    """Parse untrusted JSON, with all its texts printable.

    Raises ValueError for malformed JSON, too deep nesting, too long texts, too large numbers, NaN and infinities.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return cleaned(_parsed(line))
    return value if _is_harmless(line) else cleaned(value)


def _parsed(line: bytes | str) -> Any:
    """Parse JSON that the faster parser refuses: it may be valid but for half a surrogate pair in a text."""
    try:
        return json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _is_harmless(line: bytes | str) -> bool:
    """Whether valid JSON certainly needs no cleaning; False if `cleaned` has to look at each value.

    This is a quick check of the bytes. Without a backslash there are no control characters, which JSON escapes, and
    every quote begins or ends a text. Numbers need no check: the parser turns integers that are too large into floats
    and refuses infinities.
    """
    data = line.encode() if isinstance(line, str) else line
    if len(data) > LONGEST or not data.isascii() or b"\\" in data or b"\x7f" in data:
        return False
    marks = data.translate(None, _ALL_BUT_MARKS).replace(b'""', b"")
    if b'"' in marks:  # a bracket inside a text
        marks = b"".join(data.split(b'"')[::2]).translate(None, _ALL_BUT_BRACKETS)
    for _ in range(DEEPEST):
        if not marks:
            return True
        marks = marks.replace(b"[]", b"").replace(b"{}", b"")
    return not marks


def cleaned(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with all its texts printable. Raises ValueError for values beyond the bounds above."""
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
        raise ValueError("an integer is beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _deeper(depth: int) -> int:
    if depth >= DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return depth + 1


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON allows")
