"""The user's cache: what is kept there can be made again, so all of it may be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Give attnbench's folder under XDG_CACHE_HOME, or else under ~/.cache; it need not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnbench"
