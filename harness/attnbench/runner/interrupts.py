"""Count Ctrl-C during a run, so that the run can end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Counts SIGINT; after `most` of them the next one raises KeyboardInterrupt, as Python does by default."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Handle SIGINT within this context. Does nothing outside the main thread, where Python delivers no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._count)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _count(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > self._most:
            raise KeyboardInterrupt
