"""The text that a suite was read from, for errors that name the file and the line of the culprit."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.errors import UsageError


@dataclass(frozen=True)
class SuiteSource:
    """The origin of a suite: `name` is the path of a file or a description, `text` the TOML text, if there is one.

    A path into the table is a sequence of keys and list positions, such as ("grid", 0, "heads").
    """

    name: str
    text: str | None = None

    def at(self, *path: str | int) -> str:
        """Return the place of the entry at `path`: `file.toml:12`, or `plugin p: grid 1` if there is no text."""
        line = self.line(*path)
        if line is not None:
            return f"{self.name}:{line}"
        grid = [f"grid {key + 1}" for key in path if isinstance(key, int)]
        return ": ".join([self.name, *grid])

    def line(self, *path: str | int) -> int | None:
        """Return the line, counted from 1, on which the entry at `path` starts; None if the text has no such entry.

        Python's TOML parser reports no positions, but a text cut off between two entries is valid TOML, too. So the
        entry starts on the line after the longest beginning of the text that is valid and lacks the entry.
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
            if _has_entry(table, path):
                return start
            start = count + 1
        return None


def read_toml(path: Path) -> tuple[dict[str, Any], SuiteSource]:
    """Read a TOML file into a table and its source; raises UsageError that names the file, the line and the fault."""
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
        line = (
            found[1] if found else str(len(text.splitlines()))
        )  # without a line the fault is at the end of the document
        raise UsageError(f"{path}:{line}: not valid TOML: {message[: found.start()] if found else message}") from None


def _has_entry(table: Any, path: tuple[str | int, ...]) -> bool:
    for key in path:
        try:
            table = table[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
