"""Pack a folder into one compressed archive of limited size."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

LIMIT_BYTES = 16 * 2**20
LOG_BYTES = 32 * 2**10  # a log that is trimmed keeps this much of its end
OVERHEAD_BYTES = 1_500  # of a file in an archive: its header and padding, which hardly compress in the worst case
NOTE = "left-out.txt"


def pack(folder: Path, target: Path, limit_bytes: int = LIMIT_BYTES) -> list[str]:
    """Write all files of a folder to a .tar.gz of at most `limit_bytes`, and return what had to be left out.

    If the files do not fit, the largest logs are trimmed first: they keep their ends. Then the largest files are left
    out, records last. The file left-out.txt in the archive says what was left out. The archive replaces `target` only
    when it is complete.
    """
    files = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    left_out = _fit(files, limit_bytes - OVERHEAD_BYTES)
    if left_out:
        files[Path(NOTE)] = "".join(f"{line}\n" for line in left_out).encode()
    part = target.with_name(f"{target.name}.part")
    with tarfile.open(part, "w:gz", compresslevel=6) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{target.name.partition('.')[0]}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    part.replace(target)
    return left_out


def _fit(files: dict[Path, bytes], limit_bytes: int) -> list[str]:
    """Trim logs and remove files until the rest fits into `limit_bytes`, and return a line about each of them."""
    sizes = {name: _packed(content) for name, content in files.items()}
    left_out = []
    logs = [name for name in files if name.suffix == ".log" and len(files[name]) > LOG_BYTES]
    for name in sorted(logs, key=sizes.__getitem__, reverse=True):
        if sum(sizes.values()) <= limit_bytes:
            break
        left_out.append(f"{name}: only its last {LOG_BYTES >> 10} of {len(files[name]) >> 10} KiB are kept")
        files[name] = files[name][-LOG_BYTES:]
        sizes[name] = _packed(files[name])
    for name in sorted(files, key=lambda name: (name.suffix == ".jsonl", -sizes[name])):
        if sum(sizes.values()) <= limit_bytes:
            break
        left_out.append(f"{name}: left out, {len(files.pop(name)) >> 10} KiB")
        del sizes[name]
    return left_out


def _packed(content: bytes) -> int:
    """Return an upper estimate of the bytes that a file takes up in the archive."""
    return len(zlib.compress(content, 6)) + OVERHEAD_BYTES
