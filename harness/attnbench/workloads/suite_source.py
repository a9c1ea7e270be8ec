"""Where a suite came from, so that an error can name the file and the line of its culprit."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.errors import UsageError


@dataclass(frozen=True)
class SuiteSource:
    """The origin of a suite: `name` is a file's path or says what gave the table; `text` is the TOML, if there is one.

    A path into the table is a sequence of keys and list positions, such as ("grid", 0, "heads").
    """

    name: str
    text: str | None = None

    def at(self, *path: str | int) -> str:
        """Say where in the source the table's entry at `path` stands: `file.toml:12`, or in words without a text."""
        line = self.line(*path)
        if line is not None:
            return f"{self.name}:{line}"
        grid = [f"grid {key + 1}" for key in path if isinstance(key, int)]
        return ": ".join([self.name, *grid])

    def line(self, *path: str | int) -> int | None:
        """Find the line, from 1, on which the entry at `path` starts; None if it is not in a text.

        TOML's reader keeps no positions, but a text cut off between two entries is TOML too: the entry starts on the
        line after the longest beginning that can be read and does not hold it.
        """
        if self.text is None or not path:
            return None
        lines = self.text.splitlines(keepends=True)
        start = 1
        for count in range(1, len(lines) + 1):
            try:
                table = tomllib.loads("".join(lines[:count]))
            except tomllib.TOMLDecodeError:
                continue
            if _holds(table, path):
                return start
            start = count + 1
        return None


def read_toml(path: Path) -> tuple[dict[str, Any], SuiteSource]:
    """Read a TOML file; raises UsageError that names file, line and what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error}"
        raise UsageError(f"{path}: can't be read: {reason}") from None
    try:
        return tomllib.loads(text), SuiteSource(str(path), text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r" \(at line (\d+), column \d+\)$", message)
        line = found[1] if found else str(len(text.splitlines()))  # the other form is '(at end of document)'
        raise UsageError(f"{path}:{line}: not valid TOML: {message[: found.start()] if found else message}") from None


def _holds(table: Any, path: tuple[str | int, ...]) -> bool:
    for key in path:
        try:
            table = table[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
