"""What a worker prints, kept in a file for each cell."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

LARGEST = 1024 * 1024  # bytes of one cell's output that are kept
GRACE_S = 1.0  # for what a worker left in the pipe


class Log:
    """Takes a worker's output from a pipe into a file that is made when there is something to write, and capped."""

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._written = 0
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def started(self) -> None:
        """Begin to read, once the worker holds the writing end."""
        os.close(self.descriptor)
        self._thread.start()

    def switch(self, path: Path) -> None:
        """Write to `path` from now on."""
        with self._lock:
            self._path, self._written = path, 0

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
                room = LARGEST - self._written
                if self._path is None or room <= 0:
                    continue
                with contextlib.suppress(OSError), self._path.open("ab") as file:
                    file.write(chunk[:room])
                self._written += len(chunk[:room])
        os.close(self._reading)
