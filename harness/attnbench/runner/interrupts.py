"""Ctrl-C while a plan is worked off: counted, so that work can end in good order, and raised when that is too slow."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Counts SIGINT while it is `counted`; beyond `most` it raises KeyboardInterrupt, as without this."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Take SIGINT over from whoever has it; outside the main thread, where Python delivers none, do nothing."""
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
