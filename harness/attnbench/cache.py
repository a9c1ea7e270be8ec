"""The user's cache: what is kept there can be made again, so all of it may be deleted at any time."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from attnbench.atomic_write import write_atomically


def cache_folder() -> Path:
    """Give attnbench's folder under XDG_CACHE_HOME, or else under ~/.cache; it need not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnbench"


def recall(name: str) -> Any:
    """Give what was kept under a file's name in the cache; None where there is nothing, or nothing that can be read."""
    try:
        return json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def keep(name: str, what: Any) -> None:
    """Keep JSON values under a file's name in the cache; a cache that can't be written costs no more than time."""
    folder = cache_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, json.dumps(what))
