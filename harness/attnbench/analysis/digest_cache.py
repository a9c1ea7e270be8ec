"""Where digests of runs are kept: Parquet files in the cache, which may be deleted at any time and are never the truth.

A digest is found by what it was made from (the run's files by name, size, times and inode) and by what made it (the
source of this package), so that one which no longer fits is not found.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from attnbench.analysis.digest import SCHEMA, digest
from attnbench.atomic_write import write_atomically
from attnbench.cache import cache_folder
from attnbench.store import MANIFEST

WORTH_BYTES = 256 * 1024  # of records; fewer are read sooner than looked up
KEPT_S = 30 * 24 * 3600.0  # a digest that nobody has asked for that long is removed
PACKAGE = Path(__file__).parents[1]
KEY = b"made_from"


def shelf() -> Path:
    """Give the folder of digests; it need not be there yet."""
    return cache_folder() / "digests"


def fetch(run: Path, folder: Path, *, keep_all: bool = False) -> pa.Table:
    """Give a run's digest from the folder, or make it, and leave it there where it is worth a file (or `keep_all`).

    Raises UsageError where there is no run.
    """
    path, key = place(run, folder)
    found = _read(path, key)
    if found is not None:
        return found
    made = digest(run)
    worth = keep_all or record_bytes(run) >= WORTH_BYTES
    if worth and place(run, folder)[1] == key:  # nothing was written to it meanwhile
        _write(made, path, key)
    return made


def has(run: Path, folder: Path) -> bool:
    """Whether the folder holds a file for the run as it is."""
    return place(run, folder)[0].exists()


def record_bytes(run: Path) -> int:
    """Say how many bytes of records a run has."""
    return sum(path.stat().st_size for path in run.glob("records-*.jsonl") if path.is_file())


def place(run: Path, folder: Path) -> tuple[Path, str]:
    """Give the file for the run as it is, and the key that the file must bear."""
    files = sorted([run / MANIFEST, *run.glob("records-*.jsonl")])
    facts = [(path.name, *_facts(path)) for path in files]
    key = hashlib.sha256(json.dumps([_made_by(), str(run.resolve()), facts]).encode()).hexdigest()
    of_run = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    return folder / f"{of_run}-{key[:32]}.parquet", key


def _facts(path: Path) -> tuple[int, ...]:
    try:
        status = path.lstat()
    except OSError:
        return ()
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@functools.cache
def _made_by() -> str:
    """Name the code that makes digests, by its files as they were when it was imported."""
    facts = [(str(path.relative_to(PACKAGE)), *_facts(path)[1:3]) for path in sorted(PACKAGE.rglob("*.py"))]
    return hashlib.sha256(json.dumps([str(PACKAGE), pa.__version__, facts]).encode()).hexdigest()


def _read(path: Path, key: str) -> pa.Table | None:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
        os.utime(path)
    except (OSError, pa.ArrowException):
        return None
    metadata = table.schema.metadata or {}
    fits = metadata.get(KEY) == key.encode() and table.schema.equals(SCHEMA)
    return table if fits else None


def _write(table: pa.Table, path: Path, key: str) -> None:
    """Leave a digest for the next time; where that can't be, the next time takes as long as this one."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: key})
    with contextlib.suppress(OSError, pa.ArrowException):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="lz4", use_dictionary=False, write_page_checksum=True)
        write_atomically(path, content.getvalue().to_pybytes())
        _remove_old(path)


def _remove_old(kept: Path) -> None:
    """Remove the run's digests as it was before."""
    of_run = kept.name.partition("-")[0]
    for path in kept.parent.glob(f"{of_run}-*"):
        if path != kept:
            path.unlink(missing_ok=True)


def remove_forgotten(folder: Path) -> None:
    """Remove what nobody has asked for in a long time."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink(missing_ok=True)
