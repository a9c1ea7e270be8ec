"""Write files atomically: a reader gets either the complete old content or the complete new content."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace the content of a file in one step. A string is encoded as UTF-8.

    The data is written to a hidden temporary file in the same folder, which is then renamed. The folder must exist. If
    the data can't be written, raises OSError, removes the temporary file and leaves the old file unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
