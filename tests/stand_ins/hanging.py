"""Let the deadline of a worker pass as soon as the worker hangs, so that no test depends on the speed of the machine.

A worker that is about to hang creates a file in the folder that the environment variable HANGING names. The name of the
file is the worker's process id. The code in `HANG` does this.
"""

import select
import time
from contextlib import contextmanager

import pytest

from attnbench.isolation import worker_process

HANG = "import os, pathlib, time; pathlib.Path(os.environ['HANGING'], str(os.getpid())).touch(); time.sleep(600)"
CHECK_INTERVAL_S = 0.05  # time between two checks whether a worker hangs


class SimulatedDeadlines:
    """The supervisor's clock and its wait for a worker's reply, which takes no real time if the worker hangs.

    All other workers have the whole of their deadlines.
    """

    def __init__(self, folder):
        self._folder, self._ahead_s = folder, 0.0

    def monotonic(self):
        """Return the time in seconds."""
        return time.monotonic() + self._ahead_s

    def select(self, readable, writable, exceptional, timeout_s):
        """Wait as `select.select` does. If the worker whose reply is awaited hangs, the time passes at once."""
        hangs = self._hangs(readable[0])  # is found out first, because the worker may have sent a message before
        ready = select.select(readable, writable, exceptional, 0.0 if hangs else min(timeout_s, CHECK_INTERVAL_S))
        if hangs and not ready[0]:
            self._ahead_s += timeout_s  # not more, because the supervisor would take a longer time for a stop
        return ready

    def _hangs(self, replies):
        processes = [
            worker._process.pid for worker in worker_process.WorkerProcess._running if worker._replies == replies
        ]
        return any((self._folder / str(process)).exists() for process in processes)


@pytest.fixture(autouse=True, scope="session")
def hanging_folder(tmp_path_factory):
    """Set HANGING for the whole session, because workers whose environments differ need different fork servers."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hanging")
        patch.setenv("HANGING", str(folder))
        yield folder


@contextmanager
def simulated(folder):
    """Let the deadlines of hanging workers pass at once within the context."""
    deadlines = SimulatedDeadlines(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "time", deadlines)
        patch.setattr(worker_process, "select", deadlines)
        yield
    for path in folder.iterdir():  # the system may use a process id again
        path.unlink()


@pytest.fixture
def simulated_deadlines(hanging_folder):
    """Let the deadlines of hanging workers pass at once during a test."""
    with simulated(hanging_folder):
        yield
