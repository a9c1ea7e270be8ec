"""Let the deadline of a worker pass as soon as the worker hangs, so that no test depends on the speed of the machine.

A worker that is about to hang creates a file in the folder that the environment variable HANGING names. The name of the
file is the worker's process id. The code in `HANG` does this.
"""

import select
import time

import pytest

from attnbench.isolation import worker_process

HANG = "import os, pathlib, time; pathlib.Path(os.environ['HANGING'], str(os.getpid())).touch(); time.sleep(600)"
CHECK_INTERVAL_S = 0.05  # time between two checks whether a worker hangs
LONGER_THAN_ANY_DEADLINE_S = 1e6


class SimulatedDeadlines:
    """The supervisor's clock and its wait for a worker's reply, for which a worker that hangs takes very long.

    All other workers have the whole of their deadlines.
    """

    def __init__(self, folder):
        self._folder, self._ahead_s = folder, 0.0

    def monotonic(self):
        """Return the time in seconds."""
        return time.monotonic() + self._ahead_s

    def select(self, readable, writable, exceptional, timeout_s):
        """Wait as `select.select` does. If the worker whose reply is awaited hangs, much time passes at once."""
        hangs = self._hangs(readable[0])  # is found out first, because the worker may have sent a message before
        ready = select.select(readable, writable, exceptional, min(timeout_s, CHECK_INTERVAL_S))
        if hangs and not ready[0]:
            self._ahead_s += LONGER_THAN_ANY_DEADLINE_S
        return ready

    def _hangs(self, replies):
        processes = [
            worker._process.pid for worker in worker_process.WorkerProcess._running if worker._replies == replies
        ]
        return any((self._folder / str(process)).exists() for process in processes)


def simulate_deadlines(patch, folder):
    """Let the deadlines of hanging workers pass at once while `patch`, a MonkeyPatch, applies."""
    deadlines = SimulatedDeadlines(folder)
    patch.setenv("HANGING", str(folder))
    patch.setattr(worker_process, "time", deadlines)
    patch.setattr(worker_process, "select", deadlines)


@pytest.fixture
def simulated_deadlines(tmp_path_factory, monkeypatch):
    """Let the deadlines of hanging workers pass at once during a test."""
    simulate_deadlines(monkeypatch, tmp_path_factory.mktemp("hanging"))
