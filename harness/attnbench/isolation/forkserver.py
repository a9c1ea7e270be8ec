"""The nurseries of this process: one for each environment that workers are to have, kept for the next worker."""

from __future__ import annotations

import contextlib
import json
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
from typing import Any

from attnbench.isolation.forkserver_main import MARK, TOKEN_LENGTH

MOST_IDLE = 4  # nurseries without a worker that are kept
GRACE_S = 1.0
START_S = 300.0  # a nursery imports torch, perhaps from a network's disk, before it forks the first worker
NOT_FOR_WORKERS = ("PYTEST_CURRENT_TEST",)  # changes with every test, and so would every test need a nursery


class Child:
    """A worker's process, which is the nursery's child: known by what the nursery reports of it."""

    def __init__(self, nursery: Nursery, report: int) -> None:
        self._nursery, self._report = nursery, report
        self._told: list[int] = []
        self._lost = False

    def start(self) -> int | None:
        """Wait until it runs and give its process id; None if the nursery ended before, or takes too long."""
        self._listen(START_S, until=1)
        return self.pid

    @property
    def pid(self) -> int | None:
        """Its process id, if it is known yet."""
        return self._told[0] if self._told else None

    def wait(self, timeout_s: float) -> int | None:
        """Give its exit code (negative: the signal that ended it), or None if it runs on, or never did.

        A nursery that ends takes its workers with it.
        """
        self._listen(timeout_s, until=2)
        if len(self._told) > 1:
            return self._told[1]
        return -signal.SIGKILL if self._lost and not self._nursery.alive else None

    def release(self) -> None:
        """Say that nobody will mean this process any more, so that its id may be used again."""
        os.close(self._report)
        self._nursery.workers.discard(self)

    def _listen(self, timeout_s: float, until: int) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self._told) < until and not self._lost:
            if not select.select([self._report], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return
            data = os.read(self._report, 64)
            self._told += map(int, data.split())
            self._lost = not data


class Nursery:
    """A process that forks workers, as its supervisor sees it."""

    def __init__(self, environment: Mapping[str, str], cores: Collection[int] | None) -> None:
        self.workers: set[Child] = set()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pinned = ",".join(map(str, sorted(cores))) if cores else "all"
            self._process = subprocess.Popen(
                [sys.executable, "-m", "attnbench.isolation.forkserver_main", str(theirs.fileno()), pinned],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**environment, MARK: "0" * TOKEN_LENGTH},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def fork(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> Child:
        """Ask for a worker; raises OSError where the nursery has ended."""
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._line, [json.dumps(order).encode()], [*descriptors, writing])
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        child = Child(self, reading)
        self.workers.add(child)
        return child

    def end(self) -> None:
        """End it, and with it every worker that it has forked."""
        self._line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._process.kill()
        self._process.wait()


_nurseries: dict[tuple[Any, ...], Nursery] = {}
_lock = threading.Lock()  # devices are worked on side by side


def fork_worker(
    environment: Mapping[str, str], cores: Collection[int] | None, order: Mapping[str, Any], descriptors: Sequence[int]
) -> Child:
    """Have a worker forked that begins in `environment`, pinned to `cores`; the order and its descriptors say the rest.

    What libraries read when they are imported is the same for all workers of one nursery: environment, cores, folder.
    """
    environment = {name: value for name, value in environment.items() if name not in NOT_FOR_WORKERS}
    key = (os.getpid(), Path.cwd(), tuple(sorted(cores or ())), tuple(sorted(environment.items())))
    with _lock:
        if key in _nurseries and _nurseries[key].alive:
            with contextlib.suppress(OSError):
                return _nurseries[key].fork(order, descriptors)
        _end_idle(most=MOST_IDLE - 1)
        _nurseries[key] = Nursery(environment, cores)
        return _nurseries[key].fork(order, descriptors)


def end_idle() -> None:
    """End every nursery that has no worker."""
    with _lock:
        _end_idle(most=0)


def end_all() -> None:
    """End every nursery, and so every worker, at once."""
    with _lock:
        for nursery in _nurseries.values():
            nursery.end()
        _nurseries.clear()


def _end_idle(most: int) -> None:
    idle = [key for key, nursery in _nurseries.items() if key[0] == os.getpid() and not nursery.workers]
    for key in idle[: max(0, len(idle) - most)]:
        _nurseries.pop(key).end()
