"""The fork server: a process that imports torch once and then forks workers, which need not import it again.

It loads no plugin and touches no device, so a worker begins in the same state as a new process. Started by
`python -m attnbench.isolation.forkserver_main SOCKET CORES`: the descriptor of an inherited socket on which the
supervisor asks for workers, and the cores that they are pinned to (`all` for no pinning).
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from attnbench.isolation.cleanup import MARK_LENGTH, MARK_VARIABLE


@dataclass(frozen=True)
class ForkRequest:
    """What a new worker runs, in which environment and under which memory limit.

    - `entry`: a module's name or a script's path, run as `__main__` with two descriptors as its arguments: the one it
      reads requests from and the one it writes replies to
    - `imports`: modules that the fork server imports before it forks, so that later workers find them imported
    - `environment`: variables of this worker, beside those of the fork server
    - `data_limit`: RLIMIT_DATA in bytes, or None for no limit
    """

    entry: str
    imports: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    data_limit: int | None = None

    def to_json(self) -> bytes:
        """Encode the request."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_json(data: bytes) -> ForkRequest:
        """Decode a request."""
        return ForkRequest(**json.loads(data))


MAX_REQUEST_BYTES = 1 << 16
DESCRIPTORS = 4  # each request is sent with four: requests, replies, log and report
PR_SET_PDEATHSIG = 1


class ForkServerLoop:
    """Fork a worker for each ForkRequest that arrives on the socket, and report how each worker ended.

    The report of a worker is two lines in its pipe: its process id and, when it has ended, its exit code, or the
    negative number of the signal that ended it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._pid = os.getpid()
        self._reports: dict[int, int] = {}  # process id of a worker -> descriptor of its report
        self._released: set[int] = set()  # process ids of workers that the supervisor has released
        self._wakeup_reader, self._wakeup_writer = os.pipe()
        os.set_blocking(self._wakeup_writer, False)
        self._mark_address = _address_of(MARK_VARIABLE)

    def serve(self) -> None:
        """Handle requests until the supervisor closes the socket or dies; the workers end with this process."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        while True:
            watched = select.poll()
            watched.register(self._socket, select.POLLIN)
            watched.register(self._wakeup_reader, select.POLLIN)
            for report in self._reports.values():
                watched.register(report, 0)  # wakes only when the supervisor closes its end
            for descriptor, _ in watched.poll():
                if descriptor == self._wakeup_reader:
                    os.read(self._wakeup_reader, MAX_REQUEST_BYTES)
                    self._report_exits()
                elif descriptor != self._socket.fileno():
                    self._end_released(descriptor)
                elif not self._handle_request():
                    return

    def _handle_request(self) -> bool:
        """Read one request and fork its worker; return False if the supervisor has closed the socket."""
        data, descriptors, *_ = socket.recv_fds(self._socket, MAX_REQUEST_BYTES, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        request, (requests, replies, log, report) = ForkRequest.from_json(data), descriptors
        _import_all(request.imports, log)
        pid = _fork()
        if pid == 0:
            os.close(report)
            self._run_worker(request, requests, replies, log)
        for descriptor in (requests, replies, log):
            os.close(descriptor)
        if pid is None:
            os.close(report)
        else:
            self._reports[pid] = report
            _report(report, pid)
        return True

    def _report_exits(self) -> None:
        """Report the workers that have ended, without reaping them: their PIDs stay taken until they are released."""
        for pid, report in self._reports.items():
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if ended is not None:
                _report(report, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
        self._reap()

    def _end_released(self, report: int) -> None:
        """Kill the process group of a worker whose report the supervisor no longer reads."""
        pid = next(pid for pid, descriptor in self._reports.items() if descriptor == report)
        os.close(self._reports.pop(pid))
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        self._released.add(pid)
        self._reap()

    def _reap(self) -> None:
        self._released -= {pid for pid in self._released if os.waitpid(pid, os.WNOHANG)[0]}

    def _run_worker(self, request: ForkRequest, requests: int, replies: int, log: int) -> NoReturn:
        """Turn this forked process into the worker and exit with its code."""
        code = 1
        try:
            os.setsid()
            _die_with(self._pid)
            self._detach(log)
            self._set_environment(dict(request.environment or {}))
            _limit_memory(request.data_limit)
            sys.argv = [request.entry, str(requests), str(replies)]
            if request.entry.endswith(".py"):
                runpy.run_path(request.entry, run_name="__main__")
            else:
                runpy.run_module(request.entry, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException:  # noqa: BLE001 - the traceback goes to the worker's log, as Python itself would print it
            traceback.print_exc()
        finally:
            os._exit(code)

    def _detach(self, log: int) -> None:
        """Drop the fork server's signal handlers and descriptors, and send standard output and error to the log."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self._wakeup_reader, self._wakeup_writer, *self._reports.values()):
            os.close(descriptor)
        self._socket.close()
        _redirect_output(log)
        os.close(log)

    def _set_environment(self, environment: dict[str, str]) -> None:
        """Set the worker's variables, its mark also in the memory that /proc/PID/environ shows.

        The kernel shows the environment that a process was started with, which a forked process shares with its
        parent, so the mark is written over the fork server's.
        """
        os.environ.update(environment)
        tempfile.tempdir = None  # Python has cached the folder of another TMPDIR
        mark = environment.get(MARK_VARIABLE, "").encode()
        if self._mark_address and len(mark) == MARK_LENGTH:
            ctypes.memmove(self._mark_address, mark, MARK_LENGTH)


def _import_all(names: Sequence[str], log: int) -> None:
    """Import modules once. Errors are ignored: the worker meets them again and reports them."""
    if all(name in sys.modules for name in names):
        return
    saved = os.dup(1), os.dup(2)
    _redirect_output(log)
    with contextlib.suppress(Exception):
        for name in names:
            importlib.import_module(name)
    for descriptor, copy in zip((1, 2), saved, strict=True):
        os.dup2(copy, descriptor)
        os.close(copy)
    gc.collect()
    gc.freeze()  # otherwise a collection in a worker would copy every page that it shares with this process


def _redirect_output(log: int) -> None:
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, descriptor)


def _report(report: int, number: int) -> None:
    with contextlib.suppress(OSError):  # the supervisor may have closed its end
        os.write(report, b"%d\n" % number)


def _fork() -> int | None:
    """Fork; return None if the system refuses."""
    try:
        with warnings.catch_warnings(
            action="ignore", category=DeprecationWarning
        ):  # Python warns about idle threads of libraries
            return os.fork()
    except OSError:
        return None


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when its parent dies, so that no orphan holds a device."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _limit_memory(data_limit: int | None) -> None:
    """Set RLIMIT_DATA (bytes), and make the kernel kill this process first if memory runs out."""
    if data_limit is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _address_of(variable: str) -> int | None:
    """Return the address of the value that an environment variable had when the process started."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    return getenv(variable.encode())  # type: ignore[no-any-return] # a pointer


def main(descriptor: str, cores: str) -> None:
    """Pin the process before any library counts its cores, and serve."""
    if cores != "all":
        os.sched_setaffinity(0, map(int, cores.split(",")))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # keeps torch's profiler out of every cell's log
    ForkServerLoop(socket.socket(fileno=int(descriptor))).serve()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
