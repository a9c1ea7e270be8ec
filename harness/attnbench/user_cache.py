"""The user's cache. It may be deleted at any time, because everything in it can be computed again."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from attnbench.atomic_write import write_atomically


def cache_folder() -> Path:
    """Return attnbench's cache folder, under XDG_CACHE_HOME or by default under ~/.cache. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnbench"


def read_cached(name: str) -> Any:
    """Return the JSON value of a file in the cache, or None if the file does not exist or can't be read."""
    try:
        return json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_cached(name: str, value: Any) -> None:
    """Write a JSON value to a file in the cache. Ignores errors, because the value can be computed again."""
    folder = cache_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, json.dumps(value))
