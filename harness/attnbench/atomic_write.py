"""Write a file so that a reader finds either the old content or the new one, and never a part of it."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace the content of `path` in one step; text is encoded as UTF-8.

    The data goes to a hidden temporary file in the same folder, which is then renamed. The folder must exist. Raises
    OSError if the data can't be written: the old file is left as it was and the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
