"""The user's cache. It may be deleted at any time, because everything in it can be computed again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from attnbench.atomic_write import write_atomically


def cache_folder() -> Path:
    """Return attnbench's cache folder, under XDG_CACHE_HOME or by default under ~/.cache. It may not exist yet.

    If the user has no home folder, it is the temporary folder.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given or Path.home() / ".cache") / "attnbench"
    except RuntimeError:
        return temporary_folder()


def temporary_folder() -> Path:
    """Return the user's own folder below the system's temporary folder, and create it if it does not exist.

    Raises OSError if it can't be created, or if it belongs to another user, who could change its files.
    """
    folder = Path(tempfile.gettempdir()) / f"attnbench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(errno.EACCES, "not a folder of this user", str(folder))
    return folder


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
