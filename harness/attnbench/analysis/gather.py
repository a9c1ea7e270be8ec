"""The digests of many runs: from the cache, or made by several processes at once.

Run as `python -m attnbench.analysis.gather FOLDER`, it makes those of the runs on its standard input, a path in JSON a
line, and leaves them in the folder.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.analysis import digest_cache
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    import pyarrow as pa

ALONE_BYTES = 64 * 1024 * 1024  # of records; below, a second process is not worth its start


def digests(runs: Sequence[Path]) -> list[pa.Table]:
    """Give the digests of runs, in their order; raises UsageError for a run that has no manifest."""
    folder = digest_cache.shelf()
    new = [run for run in runs if not digest_cache.has(run, folder)]
    if sum(map(digest_cache.record_bytes, new)) < ALONE_BYTES:
        return _fetch(runs, folder)
    with contextlib.ExitStack() as stack:
        if not _is_writable(folder):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attnbench-")))
        _make(new, folder, processes=len(os.sched_getaffinity(0)))
        digest_cache.remove_forgotten(folder)
        return _fetch(runs, folder)


def _fetch(runs: Sequence[Path], folder: Path) -> list[pa.Table]:
    """Read the runs' digests, two at a time: reading Parquet leaves the interpreter free."""
    with ThreadPoolExecutor(max_workers=2) as readers:
        return list(readers.map(lambda run: digest_cache.fetch(run, folder), runs))


def _make(runs: Sequence[Path], folder: Path, processes: int) -> None:
    """Have digests made side by side; what a process fails at is made by who asks for it."""
    command = [sys.executable, "-P", "-m", "attnbench.analysis.gather", str(folder)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    started = []
    for first in range(min(processes, len(runs))):
        with tempfile.TemporaryFile("w+", encoding="ascii") as orders:
            orders.writelines(f"{json.dumps(str(run.resolve()))}\n" for run in runs[first::processes])
            orders.seek(0)
            process = subprocess.Popen(
                command,
                stdin=orders,
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


def main(folder: str) -> None:
    """Make the digests that are asked for."""
    gc.disable()  # a run's records hold no cycles, and looking for some takes a tenth of the time
    for line in sys.stdin.read().splitlines():
        with contextlib.suppress(AttnbenchError, OSError):
            digest_cache.fetch(Path(json.loads(line)), Path(folder), keep_all=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
