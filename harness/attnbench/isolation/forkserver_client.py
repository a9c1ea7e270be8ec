"""The supervisor's fork servers: processes that have imported torch and fork workers on request.

There is one for each combination of environment, cores and working directory that workers need; it is kept for the
next worker.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.isolation import forkserver_main
from attnbench.isolation.cleanup import MARK_LENGTH, MARK_VARIABLE

if TYPE_CHECKING:
    from attnbench.isolation.forkserver_main import ForkRequest

MAX_IDLE = 4  # how many fork servers without a worker are kept
GRACE_S = 1.0
START_TIMEOUT_S = 300.0  # the first worker waits for the import of torch, which may be slow on a network disk
NOT_FOR_WORKERS = ("PYTEST_CURRENT_TEST",)  # it changes with every test, so every test would start a fork server


class ForkedWorker:
    """A worker process, which is a child of the fork server and not of the supervisor.

    The fork server reports its process id and its exit code through the pipe `report`.
    """

    def __init__(self, server: ForkServer, report: int) -> None:
        self._server, self._report = server, report
        self._reported: list[int] = []  # the process id, then the exit code
        self._report_closed = False

    def start(self) -> int | None:
        """Wait until the worker runs and return its process id; None if the fork server ended or took too long."""
        self._read_report(START_TIMEOUT_S, until=1)
        return self.pid

    @property
    def pid(self) -> int | None:
        """The process id, or None if the worker has not been forked yet."""
        return self._reported[0] if self._reported else None

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code, or the negative number of the signal that ended it; None if it still runs.

        None also if it never started. If the fork server has ended, the kernel has killed its workers.
        """
        self._read_report(timeout_s, until=2)
        if len(self._reported) > 1:
            return self._reported[1]
        return -signal.SIGKILL if self._report_closed and not self._server.alive else None

    def release(self) -> None:
        """Release the PID; it may be reused."""
        os.close(self._report)
        self._server.workers.discard(self)

    def _read_report(self, timeout_s: float, until: int) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self._reported) < until and not self._report_closed:
            if not select.select([self._report], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return
            data = os.read(self._report, 64)
            self._reported += map(int, data.split())
            self._report_closed = not data


class ForkServer:
    """A running fork server as its supervisor sees it."""

    def __init__(self, environment: Mapping[str, str], cores: Collection[int] | None) -> None:
        self.workers: set[ForkedWorker] = set()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pinned = ",".join(map(str, sorted(cores))) if cores else "all"
            self._process = subprocess.Popen(
                [sys.executable, "-m", forkserver_main.__name__, str(theirs.fileno()), pinned],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**environment, MARK_VARIABLE: "0" * MARK_LENGTH},  # overwritten in place in each worker
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def fork(self, request: ForkRequest, descriptors: Sequence[int]) -> ForkedWorker:
        """Ask for a worker and return without waiting for it; raises OSError if the fork server has ended.

        `descriptors`: the worker's ends of the pipes for requests, replies and log.
        """
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._socket, [request.to_json()], [*descriptors, writing])
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        worker = ForkedWorker(self, reading)
        self.workers.add(worker)
        return worker

    def end(self) -> None:
        """End the process, and with it every worker that it has forked."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._process.kill()
        self._process.wait()


_servers: dict[tuple[Any, ...], ForkServer] = {}
_lock = threading.Lock()  # several devices are measured at the same time, each by a thread


def fork_worker(
    environment: Mapping[str, str], cores: Collection[int] | None, request: ForkRequest, descriptors: Sequence[int]
) -> ForkedWorker:
    """Fork a worker from a fork server with this environment, pinned to `cores`; start the fork server if needed.

    Libraries read the environment, the number of cores and the working directory when they are imported, so workers
    that differ in one of these need different fork servers.
    """
    environment = {name: value for name, value in environment.items() if name not in NOT_FOR_WORKERS}
    key = (os.getpid(), Path.cwd(), tuple(sorted(cores or ())), tuple(sorted(environment.items())))
    with _lock:
        if key in _servers and _servers[key].alive:
            with contextlib.suppress(OSError):
                return _servers[key].fork(request, descriptors)
        _end_idle(keep=MAX_IDLE - 1)
        _servers[key] = ForkServer(environment, cores)
        return _servers[key].fork(request, descriptors)


def end_idle() -> None:
    """End every fork server that has no worker."""
    with _lock:
        _end_idle(keep=0)


def end_all() -> None:
    """End every fork server, and with it every worker, at once."""
    with _lock:
        for server in _servers.values():
            server.end()
        _servers.clear()


def _end_idle(keep: int) -> None:
    idle = [key for key, server in _servers.items() if key[0] == os.getpid() and not server.workers]
    for key in idle[: max(0, len(idle) - keep)]:
        _servers.pop(key).end()
