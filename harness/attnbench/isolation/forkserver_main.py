"""The fork server: a process that imports torch once and then forks workers, which don't have to import torch again.

The fork server loads no plugin and uses no device, so a worker starts in the same state as a new process.

The supervisor runs `python -m attnbench.isolation.forkserver_main SOCKET CORES`. SOCKET is the file descriptor of an
inherited socket, through which the supervisor requests workers. CORES is a comma-separated list of the cores to which
the workers are pinned, or `all` for no pinning.
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
    """The supervisor's request for a new worker.

    - `entry`: the name of the module or the path of the script that the worker runs as `__main__`. Its arguments are
      two file descriptors: the worker reads requests from the first and writes replies to the second.
    - `imports`: modules that the fork server imports before forking, so that neither this worker nor later ones have to
      import them
    - `environment`: environment variables of the worker, in addition to those of the fork server
    - `data_limit`: the worker's RLIMIT_DATA in bytes, or None for no limit
    """

    entry: str
    imports: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    data_limit: int | None = None

    def to_json(self) -> bytes:
        """Encode the request as JSON."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_json(data: bytes) -> ForkRequest:
        """Decode a request from JSON."""
        return ForkRequest(**json.loads(data))


MAX_REQUEST_BYTES = 1 << 16
DESCRIPTORS = 4  # each fork request comes with this many pipe ends: for requests, replies, the log and the report
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


class ForkServerLoop:
    """The fork server's main loop, which forks a worker for each ForkRequest that arrives on the socket.

    The loop writes two lines to each worker's report pipe: first the process id and, once the worker has exited, its
    exit code (or the negated signal number if a signal killed it).
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._pid = os.getpid()
        self._reports: dict[int, int] = {}  # key: process id of a worker; value: descriptor of its report pipe
        self._released: set[int] = set()  # process ids of released workers that haven't been reaped yet
        self._wakeup_reader, self._wakeup_writer = os.pipe()
        os.set_blocking(self._wakeup_writer, False)
        self._mark_address = _address_of(MARK_VARIABLE)

    def serve(self) -> None:
        """Handle requests until the supervisor closes the socket or exits.

        When this process exits, the kernel kills the workers.
        """
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        while True:
            watched = select.poll()
            watched.register(self._socket, select.POLLIN)
            watched.register(self._wakeup_reader, select.POLLIN)
            for report in self._reports.values():
                watched.register(report, 0)  # poll returns this descriptor once the pipe's other end has been closed
            for descriptor, _ in watched.poll():
                if descriptor == self._wakeup_reader:
                    os.read(self._wakeup_reader, MAX_REQUEST_BYTES)
                    self._report_exits()
                elif descriptor != self._socket.fileno():
                    self._end_released(descriptor)
                elif not self._handle_request():
                    return

    def _handle_request(self) -> bool:
        """Read one request and fork the requested worker.

        Returns False if the supervisor has closed the socket, and True otherwise.
        """
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
        """Report the exit codes of the workers that have exited.

        A worker is not reaped before the supervisor has released it, so that its process id can't be reused earlier.
        """
        for pid, report in self._reports.items():
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if ended is not None:
                _report(report, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
        self._reap()

    def _end_released(self, report: int) -> None:
        """Kill the process group of a worker whose report pipe the supervisor has closed."""
        pid = next(pid for pid, descriptor in self._reports.items() if descriptor == report)
        os.close(self._reports.pop(pid))
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        self._released.add(pid)
        self._reap()

    def _reap(self) -> None:
        self._released -= {pid for pid in self._released if os.waitpid(pid, os.WNOHANG)[0]}

    def _run_worker(self, request: ForkRequest, requests: int, replies: int, log: int) -> NoReturn:
        """Run the worker in this forked process, and exit with the worker's exit code."""
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
        except BaseException:  # noqa: BLE001 - the worker's log gets the traceback that Python itself would print
            traceback.print_exc()
        finally:
            os._exit(code)

    def _detach(self, log: int) -> None:
        """Remove the fork server's signal handlers and descriptors, and redirect stdout and stderr to the log."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self._wakeup_reader, self._wakeup_writer, *self._reports.values()):
            os.close(descriptor)
        self._socket.close()
        _redirect_output(log)
        os.close(log)

    def _set_environment(self, environment: dict[str, str]) -> None:
        """Set the worker's environment variables, and make the worker's mark visible in /proc/PID/environ.

        That file shows the memory in which the environment was stored when the process was started. A forked process
        has a copy of its parent's memory, so the fork server's placeholder in this copy is overwritten with the
        worker's mark.
        """
        os.environ.update(environment)
        tempfile.tempdir = None  # discard the cached path, which depends on the fork server's TMPDIR
        mark = environment.get(MARK_VARIABLE, "").encode()
        if self._mark_address and len(mark) == MARK_LENGTH:
            ctypes.memmove(self._mark_address, mark, MARK_LENGTH)


def _import_all(names: Sequence[str], log: int) -> None:
    """Import the modules that are not imported yet. Errors are ignored here, because the worker will report them."""
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
    # Without this call, a worker's garbage collector would modify, and thereby copy, the memory that the worker shares
    # with this process.
    gc.freeze()


def _redirect_output(log: int) -> None:
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, descriptor)


def _report(report: int, number: int) -> None:
    with contextlib.suppress(OSError):  # the supervisor may have closed its end of the pipe
        os.write(report, b"%d\n" % number)


def _fork() -> int | None:
    """Fork this process, and return the child's process id in this process and 0 in the child.

    Returns None if the system can't start another process.
    """
    try:
        # Python warns about forking a process that has several threads. The fork is safe here, because the threads of
        # the imported libraries are idle.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return os.fork()
    except OSError:
        return None


def _die_with(parent: int) -> None:
    """Make the kernel kill this process when its parent exits, so that no orphan occupies a device (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _limit_memory(data_limit: int | None) -> None:
    """Set RLIMIT_DATA to `data_limit` bytes, and make this process the first to be killed if memory runs out."""
    if data_limit is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _address_of(variable: str) -> int | None:
    """Return the memory address at which an environment variable's value was stored when this process started.

    Returns None if the variable was not set.
    """
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    return getenv(variable.encode())  # type: ignore[no-any-return] # the address of the variable's value


def main(descriptor: str, cores: str) -> None:
    """Pin this process to its cores before any library counts the available cores, and run the main loop."""
    if cores != "all":
        os.sched_setaffinity(0, map(int, cores.split(",")))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # keeps messages from torch's profiler out of the logs
    ForkServerLoop(socket.socket(fileno=int(descriptor))).serve()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
