"""What a worker prints, kept in a file for each cell."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

LARGEST = 1024 * 1024  # bytes of one cell's output that are kept
GRACE_S = 1.0  # for what a worker left in the pipe


class Log:
    """Takes a worker's output from a pipe into a file that is made when there is something to write, and capped.

    What comes before the first file is known goes to that file: a worker may end as soon as it begins.
    """

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._written = 0
        self._early = b""
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def started(self) -> None:
        """Begin to read, once the worker holds the writing end."""
        os.close(self.descriptor)
        self._thread.start()

    def switch(self, path: Path) -> None:
        """Write to `path` from now on."""
        with self._lock:
            self._path, self._written = path, 0
            early, self._early = self._early, b""
            self._keep(early)

    @property
    def written(self) -> Path | None:
        """The present file, if anything was written to it."""
        with self._lock:
            return self._path if self._written else None

    def close(self) -> None:
        """Wait until all output is stored; a descendant that outlives the worker can't hold this up."""
        self._thread.join(GRACE_S)

    def _pump(self) -> None:
        while chunk := os.read(self._reading, 1 << 16):
            with self._lock:
                self._keep(chunk)
        os.close(self._reading)

    def _keep(self, data: bytes) -> None:
        if self._path is None:
            self._early = (self._early + data)[:LARGEST]
            return
        data = data[: max(0, LARGEST - self._written)]
        if data:
            with contextlib.suppress(OSError), self._path.open("ab") as file:
                file.write(data)
            self._written += len(data)
