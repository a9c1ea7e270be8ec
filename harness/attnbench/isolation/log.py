"""Write a worker's output to log files, one file for each cell."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

MAX_LOG_BYTES = 1024 * 1024  # maximum size of a cell's log; further output is dropped
GRACE_S = 10.0  # maximum time for reading the rest of the output after a worker has exited
# Output that was asked for, such as a dump of the stacks, is complete once none has arrived for QUIET_S. The wait is
# limited, because a worker may never write anything, or never stop.
QUIET_S, OUTPUT_TIMEOUT_S = 0.1, 5.0


class WorkerLog:
    """The log of a worker. A thread copies the worker's output from a pipe to the current log file.

    A file is created when the first output for it arrives. Output that arrives before the first call of `switch` is
    kept and written to the first file, so that nothing is lost if a worker prints a message and exits immediately.
    """

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._written = 0
        self.received = 0  # bytes of output so far, including those that were dropped
        self._early = b""
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def started(self) -> None:
        """Start copying the output.

        Call this method once the worker has received the writing end of the pipe.
        """
        os.close(self.descriptor)
        self._thread.start()

    def switch(self, path: Path) -> None:
        """Append all further output to the file `path`, which an earlier worker of the same cell may have begun."""
        with self._lock:
            self._path, self._written = path, _size(path)
            early, self._early = self._early, b""
            self._store(early)

    @property
    def written(self) -> Path | None:
        """The current file, or None if nothing has been written to it."""
        with self._lock:
            return self._path if self._written else None

    def wait_for_more(self, received: int, alive: Callable[[], bool]) -> None:
        """Wait until there are more than `received` bytes of output, and until the worker stops writing more.

        The wait ends after `OUTPUT_TIMEOUT_S` seconds, or if `alive` returns False because the worker has exited.
        """
        deadline = time.monotonic() + OUTPUT_TIMEOUT_S
        while alive() and time.monotonic() < deadline:
            before = self.received
            time.sleep(QUIET_S)
            if received < before == self.received:
                return

    def close(self) -> None:
        """Wait until all output is stored.

        The wait is limited to `GRACE_S` seconds, because a descendant of the worker may keep the pipe open.
        """
        self._thread.join(GRACE_S)

    def _pump(self) -> None:
        while chunk := os.read(self._reading, 1 << 16):
            with self._lock:
                self._store(chunk)
                self.received += len(chunk)
        os.close(self._reading)

    def _store(self, data: bytes) -> None:
        if self._path is None:
            self._early = (self._early + data)[:MAX_LOG_BYTES]
            return
        data = data[: max(0, MAX_LOG_BYTES - self._written)]
        if data:
            with contextlib.suppress(OSError), self._path.open("ab") as file:
                file.write(data)
            self._written += len(data)


def _size(path: Path) -> int:
    """Return the size of a file in bytes, or 0 if there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
