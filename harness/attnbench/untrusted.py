"""Safely read records, manifests and names that may come from untrusted sources."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

MAX_DEPTH = 32  # levels of nesting; a manifest has 6
MAX_INT = 2**64 - 1  # many JSON parsers do not read larger integers
MAX_STRING_LENGTH = 100_000  # in characters
# Bytes to delete from JSON so that only its brackets, or only its brackets and quotes, remain.
_ALL_BUT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_ALL_BUT_MARKS = _ALL_BUT_BRACKETS.replace(b'"', b"")


def printable(text: str) -> str:
    """Replace unprintable characters (terminal escapes, control characters and text direction marks) with `?`.

    If the text contains any such character, each run of whitespace is first replaced with one space.
    """
    if text.isprintable():
        return text
    spaced = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in spaced)


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a dict, and an empty dict otherwise."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """Return the value if it is a list, and an empty list otherwise."""
    return value if isinstance(value, list) else []


def parse(line: bytes | str) -> Any:
    """Parse untrusted JSON, and make all its strings printable.

    Raises ValueError for malformed JSON, for values beyond the limits of this module, and for NaN and infinities.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return cleaned(_parsed(line))
    return value if _is_harmless(line) else cleaned(value)


def _parsed(line: bytes | str) -> Any:
    """Parse JSON with Python's own parser, because orjson rejects JSON with a lone surrogate in a string.

    Raises ValueError if Python's parser rejects the JSON, too, or if the JSON is nested too deeply.
    """
    try:
        return json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _is_harmless(line: bytes | str) -> bool:
    """Return whether a quick check of the bytes shows that valid JSON needs no cleaning.

    If it returns False, `cleaned` must check each value. JSON without a backslash contains no control characters,
    because these would be escaped, and each of its quotes begins or ends a string. Numbers need no check, because
    orjson converts integers beyond 64 bits to floats and rejects infinities.
    """
    data = line.encode() if isinstance(line, str) else line
    if len(data) > MAX_STRING_LENGTH or not data.isascii() or b"\\" in data or b"\x7f" in data:
        return False
    marks = data.translate(None, _ALL_BUT_MARKS).replace(b'""', b"")
    if b'"' in marks:  # strings may contain brackets, so only brackets outside of strings are counted
        marks = b"".join(data.split(b'"')[::2]).translate(None, _ALL_BUT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not marks:
            return True
        marks = marks.replace(b"[]", b"").replace(b"{}", b"")
    return not marks


def cleaned(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with unprintable characters replaced in all its strings.

    Raises ValueError if the value exceeds a limit of this module.
    """
    if isinstance(value, str):
        if len(value) > MAX_STRING_LENGTH:
            raise ValueError(f"a string has {len(value)} characters, expected at most {MAX_STRING_LENGTH}")
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
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise ValueError("an integer is beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    return depth + 1


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON allows")
