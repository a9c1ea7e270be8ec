"""The supervisor's fork servers, which are processes that import torch once and then fork workers on request.

Each combination of environment, cores and working directory has a separate fork server, which is kept for later
workers with the same combination.
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

MAX_IDLE = 4  # at most this many fork servers without workers are kept running
GRACE_S = 1.0  # a fork server may take this long to exit before it is killed
START_TIMEOUT_S = 300.0  # a fork server's first worker waits for the import of torch, which is slow from a network disk
# Environment variables that are not passed to fork servers. PYTEST_CURRENT_TEST differs between tests, so if it were
# passed on, no test could reuse the fork server of another test.
EXCLUDED_VARIABLES = ("PYTEST_CURRENT_TEST",)


class ForkedWorker:
    """A worker process, which is a child of a fork server rather than of the supervisor.

    The fork server reports the worker's process id, and later its exit code, through the pipe `report`.
    """

    def __init__(self, server: ForkServer, report: int) -> None:
        self._server, self._report = server, report
        self._reported: list[int] = []  # the process id, followed by the exit code once the worker has exited
        self._report_closed = False

    def start(self) -> int | None:
        """Wait until the worker has been forked, and return its process id.

        Returns None if the fork server exits or takes too long.
        """
        self._read_report(START_TIMEOUT_S, until=1)
        return self.pid

    @property
    def pid(self) -> int | None:
        """The process id, or None if the worker has not been forked yet."""
        return self._reported[0] if self._reported else None

    def wait(self, timeout_s: float) -> int | None:
        """Wait until the worker exits, and return its exit code or, if a signal killed it, the negated signal number.

        Returns None if the worker is still running after `timeout_s` seconds, or if it was never started. If the fork
        server has exited, returns -SIGKILL, because the kernel kills the workers of a fork server that exits.
        """
        self._read_report(timeout_s, until=2)
        if len(self._reported) > 1:
            return self._reported[1]
        return -signal.SIGKILL if self._report_closed and not self._server.alive else None

    def release(self) -> None:
        """Close the report pipe. The fork server then kills and reaps the worker, so its process id can be reused."""
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
    """The supervisor's handle for a running fork server."""

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
                env={**environment, MARK_VARIABLE: "0" * MARK_LENGTH},  # each worker overwrites this placeholder
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the fork server is running."""
        return self._process.poll() is None

    def fork(self, request: ForkRequest, descriptors: Sequence[int]) -> ForkedWorker:
        """Request a new worker and return its handle without waiting until the worker runs.

        `descriptors` are the worker's ends of the pipes for requests, replies and the log. Raises OSError if the fork
        server has exited.
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
        """End the fork server. The kernel then kills every worker that the fork server has forked."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._process.kill()
        self._process.wait()


_servers: dict[tuple[Any, ...], ForkServer] = {}
_lock = threading.Lock()  # several threads, one for each device, may fork workers at the same time


def fork_worker(
    environment: Mapping[str, str], cores: Collection[int] | None, request: ForkRequest, descriptors: Sequence[int]
) -> ForkedWorker:
    """Fork a worker that has this environment and is pinned to `cores`, starting a fork server first if necessary.

    Libraries read the environment, the number of cores and the working directory when they are imported. Workers that
    differ in any of these therefore need different fork servers.
    """
    environment = {name: value for name, value in environment.items() if name not in EXCLUDED_VARIABLES}
    key = (os.getpid(), Path.cwd(), tuple(sorted(cores or ())), tuple(sorted(environment.items())))
    with _lock:
        if key in _servers and _servers[key].alive:
            with contextlib.suppress(OSError):
                return _servers[key].fork(request, descriptors)
        _end_idle(keep=MAX_IDLE - 1)
        _servers[key] = ForkServer(environment, cores)
        return _servers[key].fork(request, descriptors)


def end_idle() -> None:
    """End all fork servers that have no workers."""
    with _lock:
        _end_idle(keep=0)


def end_all() -> None:
    """End all fork servers and their workers immediately."""
    with _lock:
        for server in _servers.values():
            server.end()
        _servers.clear()


def _end_idle(keep: int) -> None:
    idle = [key for key, server in _servers.items() if key[0] == os.getpid() and not server.workers]
    for key in idle[: max(0, len(idle) - keep)]:
        _servers.pop(key).end()
