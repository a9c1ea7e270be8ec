"""Read TOML files, and find the lines of their entries for error messages."""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attnbench.errors import UsageError

MAX_TOML_BYTES = 256 * 1024  # the largest suite of attnbench has less than 8 KiB
MAX_VALUE_LINES = 200  # after a longer value, the lines of entries are not found


@dataclass(frozen=True)
class SuiteSource:
    """The origin of a suite, for use in error messages.

    `name` is the path of the suite's file, or a description if there is no file. `text` is the TOML source, or None if
    there is no file. The methods find an entry by its path, which consists of keys and list positions, such as
    ("grid", 0, "heads").
    """

    name: str
    text: str | None = None

    def at(self, *path: str | int) -> str:
        """Return the location of an entry, such as `file.toml:12` or, if there is no file, `plugin p: grid 1`."""
        line = self.line(*path)
        if line is not None:
            return f"{self.name}:{line}"
        grid = [f"grid {key + 1}" for key in path if isinstance(key, int)]
        return ": ".join([self.name, *grid])

    def line(self, *path: str | int) -> int | None:
        """Return the number of the line on which an entry starts, or None if there is no such entry.

        Lines are counted from 1. Because Python's TOML parser reports no positions, this method splits the text into
        statements, and searches for the first statement up to which the text contains the entry.
        """
        if self.text is None or not path:
            return None
        lines, bounds = self._lines, self._statement_bounds

        def contains(end: int) -> bool:
            return _has_entry(tomllib.loads("".join(lines[:end])), path)

        first = bisect.bisect_left(bounds[1:], x=True, key=contains)
        return bounds[first] + 1 if first < len(bounds) - 1 else None

    @cached_property
    def _lines(self) -> list[str]:
        return (self.text or "").splitlines(keepends=True)

    @cached_property
    def _statement_bounds(self) -> list[int]:
        """The index of the line on which each statement starts, and the index at which the last statement ends.

        A statement is a header, or a key with its value. It is complete once its lines alone are valid TOML, so its
        lines are parsed again for each further line. Therefore the search ends before the first value of more than
        MAX_VALUE_LINES lines.
        """
        starts: list[int] = []
        statement = ""
        for index, line in enumerate(self._lines):
            if not statement:
                if not line.strip() or line.lstrip().startswith("#"):
                    continue
                starts.append(index)
            if index - starts[-1] >= MAX_VALUE_LINES:
                return starts
            statement += line
            with contextlib.suppress(tomllib.TOMLDecodeError):
                tomllib.loads(statement)
                statement = ""
        return [*starts, len(self._lines)]


def read_toml(path: Path) -> tuple[dict[str, Any], SuiteSource]:
    """Read a TOML file and return its table and its source.

    Raises UsageError if the file can't be read, is larger than MAX_TOML_BYTES or is not valid TOML. In the latter case,
    the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error}"
        raise UsageError(f"{path}: can't be read: {reason}") from None
    if len(data) > MAX_TOML_BYTES:
        raise UsageError(f"{path}: the file is larger than {MAX_TOML_BYTES >> 10} KiB: split it into several suites")
    try:
        return tomllib.loads(text), SuiteSource(str(path), text)
    except RecursionError:
        raise UsageError(f"{path}: a value is nested too deeply") from None
    except ValueError as error:  # tomllib.TOMLDecodeError, or an integer with too many digits
        message = str(error)
        found = re.search(r" \(at line (\d+), column \d+\)$", message)
        # A message without a line number refers to the end of the document.
        line = found[1] if found else str(len(text.splitlines()))
        raise UsageError(f"{path}:{line}: not valid TOML: {message[: found.start()] if found else message}") from None


def _has_entry(table: Any, path: tuple[str | int, ...]) -> bool:
    for key in path:
        try:
            table = table[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
