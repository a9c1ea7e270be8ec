"""The nursery: a process that forks workers, having imported once what takes each of them seconds to import.

It loads no plugin and touches no device, so that a worker begins as a new process would. Started by
`python -m attnbench.isolation.forkserver_main LINE CORES`: an inherited socket on which the supervisor asks for
workers, and the cores that they are pinned to (`all`: wherever the supervisor may run).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

MARK = "ATTNBENCH_WORKER"  # the variable by whose value all that descends from a worker is told
TOKEN_LENGTH = 32  # characters
LARGEST_ORDER = 1 << 16  # bytes
DESCRIPTORS = 4  # that come with an order: requests, replies, log, report
PR_SET_PDEATHSIG = 1


class Nursery:
    """Forks a worker for each order that comes on its `line`, and reports how each one ended.

    An order is JSON: `entry`, a module or a script's path that is run as `__main__` with the descriptors of requests
    and replies as its arguments; `imports`, the modules to import before; `environment`, what the worker's has beyond
    the nursery's; `data_limit`, bytes, or null where the worker's memory is not limited. Its report is the worker's
    process id and, when it has ended, its exit code (negative: the signal that ended it), a line each.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._process = os.getpid()
        self._reports: dict[int, int] = {}  # by worker's process: where its end is told
        self._unwanted: set[int] = set()  # workers that nobody listens for any more
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._waking, False)
        self._mark = _address_of(MARK)

    def serve(self) -> None:
        """Answer orders until the supervisor closes the line, or dies; the workers end with the nursery."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        while True:
            watched = select.poll()
            watched.register(self._line, select.POLLIN)
            watched.register(self._woken, select.POLLIN)
            for report in self._reports.values():
                watched.register(report, 0)
            for descriptor, _ in watched.poll():
                if descriptor == self._woken:
                    os.read(self._woken, LARGEST_ORDER)
                    self._report_ends()
                elif descriptor != self._line.fileno():
                    self._let_go(descriptor)
                elif not self._answer():
                    return

    def _answer(self) -> bool:
        """Fork a worker if there is an order; False if there will be none any more."""
        data, descriptors, *_ = socket.recv_fds(self._line, LARGEST_ORDER, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        order, (requests, replies, log, report) = json.loads(data), descriptors
        _import_all(order["imports"], log)
        process = _fork()
        if process == 0:
            os.close(report)
            self._become_worker(order, requests, replies, log)
        for descriptor in (requests, replies, log):
            os.close(descriptor)
        if process is None:
            os.close(report)
        else:
            self._reports[process] = report
            _tell(report, process)
        return True

    def _report_ends(self) -> None:
        """Report the workers that have ended; their process ids stay taken until nobody can mean them any more."""
        for process, report in self._reports.items():
            ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if ended is not None:
                _tell(report, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
        self._bury()

    def _let_go(self, report: int) -> None:
        """End a worker that nobody listens for any more."""
        process = next(process for process, own in self._reports.items() if own == report)
        os.close(self._reports.pop(process))
        with contextlib.suppress(OSError):
            os.killpg(process, signal.SIGKILL)
        self._unwanted.add(process)
        self._bury()

    def _bury(self) -> None:
        self._unwanted -= {process for process in self._unwanted if os.waitpid(process, os.WNOHANG)[0]}

    def _become_worker(self, order: dict[str, Any], requests: int, replies: int, log: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            _die_with(self._process)
            self._leave(log)
            self._bear_mark(order["environment"])
            _limit_memory(order["data_limit"])
            sys.argv = [order["entry"], str(requests), str(replies)]
            if order["entry"].endswith(".py"):
                runpy.run_path(order["entry"], run_name="__main__")
            else:
                runpy.run_module(order["entry"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException:  # noqa: BLE001 - the worker's log tells, as Python itself would
            traceback.print_exc()
        finally:
            os._exit(code)

    def _leave(self, log: int) -> None:
        """Keep nothing of the nursery's: neither its signals nor its descriptors."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self._woken, self._waking, *self._reports.values()):
            os.close(descriptor)
        self._line.close()
        _write_to(log)
        os.close(log)

    def _bear_mark(self, environment: dict[str, str]) -> None:
        """Take the worker's environment, where the kernel shows it too: it shows that which a process began with."""
        os.environ.update(environment)
        tempfile.tempdir = None  # TMPDIR is another one now
        token = environment.get(MARK, "").encode()
        if self._mark and len(token) == TOKEN_LENGTH:
            ctypes.memmove(self._mark, token, TOKEN_LENGTH)


def _import_all(names: Sequence[str], log: int) -> None:
    """Import modules once; one that fails is left to the worker, which meets the same error where it can be told."""
    if all(name in sys.modules for name in names):
        return
    kept = os.dup(1), os.dup(2)
    _write_to(log)
    with contextlib.suppress(Exception):
        for name in names:
            importlib.import_module(name)
    for descriptor, own in zip((1, 2), kept, strict=True):
        os.dup2(own, descriptor)
        os.close(own)
    gc.collect()
    gc.freeze()  # a collection in a worker would else copy every page that it shares with the nursery


def _write_to(log: int) -> None:
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, descriptor)


def _tell(report: int, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody may listen any more
        os.write(report, b"%d\n" % number)


def _fork() -> int | None:
    """Fork; None where the system refuses."""
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # libraries' idle threads
            return os.fork()
    except OSError:
        return None


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process with its parent, so that no orphan holds a device."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _limit_memory(data_limit: int | None) -> None:
    """Have the kernel refuse memory beyond the limit (bytes), and choose this process first if memory runs out."""
    if data_limit is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _address_of(variable: str) -> int | None:
    """Say where in memory the value lies that the process began with."""
    find = ctypes.CDLL(None).getenv
    find.restype = ctypes.c_void_p
    return find(variable.encode())  # type: ignore[no-any-return] # a pointer


def main(line: str, cores: str) -> None:
    """Pin the process before anything counts its cores, and serve."""
    if cores != "all":
        os.sched_setaffinity(0, map(int, cores.split(",")))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would write to every cell's log
    Nursery(socket.socket(fileno=int(line))).serve()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
