"""A cache of digests: Parquet files that may be deleted at any time, because they can be recreated from the runs.

The key of a digest is a hash of the run's files (their names, sizes, times and inodes) and of attnbench's source files.
A digest is therefore no longer used once the run or the code has changed.

`python -m attnbench.analysis.digest_cache FOLDER` reads the paths of runs from standard input, one JSON string per
line, and writes the runs' digests to FOLDER. `digests` starts several such processes if there are many records to read.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from attnbench.analysis.digest import SCHEMA, digest
from attnbench.atomic_write import write_atomically
from attnbench.errors import AttnbenchError
from attnbench.store import MANIFEST
from attnbench.user_cache import cache_folder

# A run whose records take up less than this is not cached, because reading its records is faster than reading a digest.
MIN_CACHED_BYTES = 256 * 1024
# If the records of all uncached runs take up less than this, a single process reads them, because starting several
# processes would take longer.
MIN_PARALLEL_BYTES = 64 * 1024 * 1024
MAX_UNUSED_S = 30 * 24 * 3600.0  # digests that have not been read for this long are removed
PACKAGE = Path(__file__).parents[1]
KEY = b"made_from"


def digests(runs: Sequence[Path]) -> list[pa.Table]:
    """Return the digest of each run, in the order of `runs`. Raises UsageError if a run has no valid manifest."""
    folder = digest_folder()
    new = [run for run in runs if not has_digest(run, folder)]
    if sum(map(record_bytes, new)) < MIN_PARALLEL_BYTES:
        return _fetch_all(runs, folder)
    with contextlib.ExitStack() as stack:
        if not _is_writable(folder):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attnbench-")))
        _make_in_processes(new, folder, processes=len(os.sched_getaffinity(0)))
        remove_unused(folder)
        return _fetch_all(runs, folder)


def digest_folder() -> Path:
    """Return the path of the folder for cached digests. The folder may not exist yet."""
    return cache_folder() / "digests"


def fetch(run: Path, folder: Path, *, keep_all: bool = False) -> pa.Table:
    """Return a run's digest, reading it from `folder` if possible.

    Otherwise the digest is made from the run's records. It is written to `folder` if the run is large enough, or if
    `keep_all` is true. Raises UsageError if the run has no valid manifest.
    """
    path, key = place(run, folder)
    found = _read(path, key)
    if found is not None:
        return found
    made = digest(run)
    cached = keep_all or record_bytes(run) >= MIN_CACHED_BYTES
    if cached and place(run, folder)[1] == key:  # the key differs if the run changed while it was being read
        _write(made, path, key)
    return made


def has_digest(run: Path, folder: Path) -> bool:
    """Return whether the folder contains a digest of the run's current state."""
    return place(run, folder)[0].exists()


def record_bytes(run: Path) -> int:
    """Return the total size of a run's record files, in bytes."""
    return sum(path.stat().st_size for path in run.glob("records-*.jsonl") if path.is_file())


def place(run: Path, folder: Path) -> tuple[Path, str]:
    """Return the path for the digest of a run's current state, and the key that the digest's metadata must contain."""
    files = sorted([run / MANIFEST, *run.glob("records-*.jsonl")])
    facts = [(path.name, *_facts(path)) for path in files]
    key = hashlib.sha256(json.dumps([_made_by(), str(run.resolve()), facts]).encode()).hexdigest()
    of_run = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    return folder / f"{of_run}-{key[:32]}.parquet", key


def remove_unused(folder: Path) -> None:
    """Remove the digests that have not been read for MAX_UNUSED_S seconds."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > MAX_UNUSED_S:
                path.unlink(missing_ok=True)


def _fetch_all(runs: Sequence[Path], folder: Path) -> list[pa.Table]:
    """Fetch the runs' digests in two threads, which run in parallel because reading Parquet releases the GIL."""
    with ThreadPoolExecutor(max_workers=2) as readers:
        return list(readers.map(lambda run: fetch(run, folder), runs))


def _make_in_processes(runs: Sequence[Path], folder: Path, processes: int) -> None:
    """Make the digests of all runs in several processes.

    Errors in these processes are ignored, because a later call to `fetch` makes the missing digests and raises the same
    errors.
    """
    command = [sys.executable, "-P", "-m", "attnbench.analysis.digest_cache", str(folder)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    started = []
    for first in range(min(processes, len(runs))):
        with tempfile.TemporaryFile("w+", encoding="ascii") as paths:
            paths.writelines(f"{json.dumps(str(run.resolve()))}\n" for run in runs[first::processes])
            paths.seek(0)
            process = subprocess.Popen(
                command,
                stdin=paths,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        started.append(process)
    for process in started:
        process.wait()


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _facts(path: Path) -> tuple[int, ...]:
    try:
        status = path.lstat()
    except OSError:
        return ()
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@functools.cache
def _made_by() -> str:
    """Return a hash of this version of the code.

    The hash covers the version of pyarrow and the names, sizes and modification times of attnbench's source files at
    the time of the first call.
    """
    facts = [(str(path.relative_to(PACKAGE)), *_facts(path)[1:3]) for path in sorted(PACKAGE.rglob("*.py"))]
    return hashlib.sha256(json.dumps([str(PACKAGE), pa.__version__, facts]).encode()).hexdigest()


def _read(path: Path, key: str) -> pa.Table | None:
    """Read a digest.

    Returns None if the file is missing or damaged, has a different key, or does not have the columns in SCHEMA.
    """
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
    """Write a digest. Errors are ignored, because a missing digest is made again when it is needed."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: key})
    with contextlib.suppress(OSError, pa.ArrowException):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="lz4", use_dictionary=False, write_page_checksum=True)
        write_atomically(path, content.getvalue().to_pybytes())
        _remove_outdated(path)


def _remove_outdated(kept: Path) -> None:
    """Remove all digests of a run except `kept`, because the others describe earlier states of the run."""
    of_run = kept.name.partition("-")[0]
    for path in kept.parent.glob(f"{of_run}-*"):
        if path != kept:
            path.unlink(missing_ok=True)


def main(folder: str) -> None:
    """Read the paths of runs from standard input, and write the runs' digests to `folder`."""
    gc.disable()  # records contain no reference cycles, and looking for cycles would take a tenth of the time
    for line in sys.stdin.read().splitlines():
        with contextlib.suppress(AttnbenchError, OSError):
            fetch(Path(json.loads(line)), Path(folder), keep_all=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
