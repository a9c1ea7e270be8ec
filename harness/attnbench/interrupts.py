"""Signals that ask a process to end: SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which is sent when a terminal is closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndedBySignal(BaseException):
    """Raised when a signal other than SIGINT asks this process to end. `number` is the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class Interrupts:
    """A counter of signals that ask the process to end.

    Every signal after the first `limit` signals raises KeyboardInterrupt (SIGINT) or EndedBySignal. `first` is the
    number of the first signal, or None if there was none.
    """

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.first: int | None = None
        self._limit = limit

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count signals while the context is active.

        Does nothing in threads other than the main thread, because Python handles signals only in the main thread.
        """
        with _handled_by(self._count):
            yield

    def _count(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self.count:
            return  # when a terminal is closed, both the shell and the kernel send this signal
        self.count += 1
        self.first = self.first or number
        if self.count > self._limit:
            _raise(number, None)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt or EndedBySignal when this process receives one of the SIGNALS in the context.

    Without this context, SIGTERM and SIGHUP end a process before it can end its workers and remove its files. Does
    nothing in threads other than the main thread.
    """
    with _handled_by(_raise):
        yield


def signal_of(ended: KeyboardInterrupt | EndedBySignal) -> int:
    """Return the number of the signal that caused an exception."""
    return ended.number if isinstance(ended, EndedBySignal) else signal.SIGINT


def exit_code(number: int) -> int:
    """Return the exit code of a process that a signal has ended, as shells show it."""
    return 128 + number


def _raise(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else EndedBySignal(number)


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    """Handle the SIGNALS with `handler` while the context is active, unless this is not the main thread.

    A SIGHUP that is ignored stays ignored, so that a command started with `nohup` goes on when its terminal is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
