"""The supervisor's handle for a worker process. It sends requests, waits for replies, and ends the process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from attnbench import worker
from attnbench.errors import PluginError
from attnbench.isolation import forkserver_client
from attnbench.isolation.cleanup import WorkerCleanup
from attnbench.isolation.forkserver_client import fork_worker
from attnbench.isolation.forkserver_main import ForkRequest
from attnbench.isolation.log import WorkerLog
from attnbench.isolation.memory_limit import CHECK_INTERVAL_S, HostMemory, oom_kill_count, resident_bytes
from attnbench.messages import (
    AboutNotice,
    DescribeRequest,
    FailedReply,
    MessageError,
    Notice,
    PhaseNotice,
    Reply,
    SupportRequest,
    WorkerRequest,
    decode_answer,
    encode,
    new_id,
)

ENTRY = worker.__name__  # the name of the module, or the path of the script, that a worker runs
PRELOADED = (f"{worker.__name__}.cell",)  # this module imports torch, so it is preloaded for workers that need torch
MAX_REPLY_BYTES = 64 * 1024 * 1024
GRACE_S = 1.0  # time between SIGTERM and SIGKILL
# A process that exits or crashes closes its pipes first, and then needs time, for example to free the memory of a GPU.
# If it is still running after this time, it has only closed its pipes.
EXIT_TIMEOUT_S = 10.0
# If this process wakes up so much later than it asked for, it was stopped, for example with SIGSTOP or Ctrl-Z, or with
# its whole container. A busy machine delays it less.
STOPPED_S = 1.0
KILL_TIMEOUT_S = 10.0  # a process may take this long to exit after SIGKILL


class WorkerLostError(Exception):
    """Raised when a worker dies, hangs, uses too much memory or sends an invalid message.

    The worker is no longer running when this error is raised.

    - `status`: the status for the record of the current cell: `crash`, `timeout`, `out_of_memory` or `error`
    - `phase`: the phase in which the worker was lost
    - `reason`: an explanation for the record
    """

    def __init__(self, status: str, phase: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.phase, self.reason = status, phase, reason


class WorkerProcess:
    """The supervisor's handle for a running worker process.

    The process leads its own session and exchanges messages with the supervisor through two pipes.

    - `environment`: environment variables of the worker, in addition to those of the supervisor
    - `cores`: the cores to which the worker is pinned, or None for no pinning
    - `memory`: the limit on the worker's host memory, or None for no limit
    - `needs_torch`: whether the fork server imports torch before it forks the worker
    """

    _running: ClassVar[set[WorkerProcess]] = set()

    def __init__(
        self,
        environment: Mapping[str, str],
        cores: Collection[int] | None = None,
        memory: HostMemory | None = None,
        *,
        needs_torch: bool = True,
    ) -> None:
        self._log, self._cleanup, self._memory = WorkerLog(), WorkerCleanup(), memory
        self._oom_kills_before = oom_kill_count()
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._buffer = b""
        self._identity = ""
        self.phase = "start"
        self.seconds: dict[str, float] = {}  # seconds spent waiting for the worker, by phase
        self.stopped_s = 0.0  # seconds for which this process was stopped while it waited for the worker
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = fork_worker(
            {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
            cores,
            ForkRequest(
                entry=ENTRY,
                imports=PRELOADED if needs_torch else (),
                environment=self._cleanup.environment(),
                data_limit=memory.refused_bytes if memory else None,
            ),
            (requests, replies, self._log.descriptor),
        )
        self._running.add(self)
        for descriptor in (requests, replies):
            os.close(descriptor)
        self._log.started()

    @classmethod
    def end_all(cls) -> None:
        """Kill all workers of this supervisor immediately. Threads that wait for a worker raise WorkerLostError."""
        for running in cls._running.copy():  # a copy, because other threads may start and stop workers at the same time
            running._signal(os.killpg, signal.SIGKILL)  # noqa: SLF001 - a method of this class
        forkserver_client.end_all()  # also kills workers whose process id has not been reported yet

    def request(
        self,
        message: WorkerRequest,
        deadline_s: Callable[[str], float],
        on_notice: Callable[[Notice], None] = lambda _: None,
    ) -> Reply:
        """Send one request and return its reply. Combines `post` and `wait`."""
        self.post(message)
        return self.wait(deadline_s, on_notice)

    def post(self, message: WorkerRequest) -> None:
        """Send one request. Call `wait` before sending the next request.

        Raises WorkerLostError if the worker has exited or can't be started.
        """
        if self._process.start() is None:
            raise self._died()
        self._identity = new_id()
        line = encode(self._identity, message)
        try:
            while line:
                line = line[os.write(self._requests, line) :]
        except OSError:
            raise self._died() from None

    def wait(self, deadline_s: Callable[[str], float], on_notice: Callable[[Notice], None] = lambda _: None) -> Reply:
        """Wait for the reply to the posted request, and return the reply.

        `deadline_s` takes the name of the current phase and returns how many seconds the next message may take.
        `on_notice` is called with every notice that arrives before the reply. If the worker is lost, ends the worker
        and raises WorkerLostError. The time for which this process was stopped counts towards no deadline.
        """
        while True:
            began = self._running_s()
            try:
                message = self._message(began + deadline_s(self.phase))
            finally:
                self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + self._running_s() - began
            if not isinstance(message, Notice):
                return message
            if isinstance(message, PhaseNotice):
                self.phase = message.phase
            on_notice(message)

    def log_to(self, path: Path) -> None:
        """Write all further output of the worker to the file `path`."""
        self._log.switch(path)

    @property
    def alive(self) -> bool:
        """Whether the worker is running."""
        return self._process.wait(0) is None

    @property
    def held_bytes(self) -> int:
        """The host memory that the worker holds, in bytes, or 0 if it has not been forked yet."""
        return resident_bytes(self._process.pid) if self._process.pid else 0

    def stop(self) -> None:
        """Stop the worker and its process group, and wait until their processes have exited."""
        with contextlib.suppress(OSError):
            os.close(self._requests)
        self._requests = -1
        if self._process.start():
            self._process.wait(GRACE_S)
        self._kill()

    def _message(self, deadline: float) -> Notice | Reply:
        line = self._line(deadline)
        try:
            return decode_answer(line, self._identity)
        except MessageError as error:
            self._kill()
            raise WorkerLostError("error", self.phase, str(error)) from error

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            self._wait_readable(deadline)
            chunk = os.read(self._replies, 1 << 16)
            if not chunk:
                raise self._died()
            self._buffer += chunk
            if len(self._buffer) > MAX_REPLY_BYTES:
                self._kill()
                raise WorkerLostError("error", self.phase, f"a reply is over {MAX_REPLY_BYTES} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _wait_readable(self, deadline: float) -> None:
        """Wait until the worker has sent something.

        If the deadline passes or the worker uses too much host memory, ends the worker and raises WorkerLostError.
        """
        while (remaining := deadline - self._running_s()) > 0:
            timeout_s, began = min(remaining, CHECK_INTERVAL_S), time.monotonic()
            readable = select.select([self._replies], [], [], timeout_s)[0]
            late_s = time.monotonic() - began - timeout_s
            self.stopped_s += late_s if late_s > STOPPED_S else 0.0
            if readable:
                return
            if self._memory and self._process.pid and (reason := self._memory.exceeded(self._process.pid)):
                self._kill()
                raise WorkerLostError("out_of_memory", self.phase, reason)
        raise self._timed_out()

    def _running_s(self) -> float:
        """Return the seconds since an arbitrary time, without those for which this process was stopped."""
        return time.monotonic() - self.stopped_s

    def _timed_out(self) -> WorkerLostError:
        """End a worker that has missed its deadline, and return the error to raise."""
        received = self._log.received
        self._signal(os.kill, signal.SIGUSR1)  # makes faulthandler write the stacks of all threads to the log
        self._log.wait_for_more(received, lambda: self.alive)
        self._kill()
        return WorkerLostError("timeout", self.phase, f"no reply within the deadline of phase {self.phase}")

    def _died(self) -> WorkerLostError:
        """End a worker that has closed its pipes or could not be started, and return the error to raise.

        The error explains what happened to the worker.
        """
        code = self._process.wait(EXIT_TIMEOUT_S)
        self._kill()
        if code == -signal.SIGKILL and oom_kill_count() > self._oom_kills_before:
            return WorkerLostError("out_of_memory", self.phase, "killed by the kernel: the machine ran out of memory")
        if code is None and self._process.pid is None:
            reason = "the system refused to start the process"
        elif code is None:
            reason = "the worker closed its results pipe"
        elif code < 0:
            reason = f"killed by {signal.Signals(-code).name}"
        else:
            reason = f"the process exited with code {code}"
        return WorkerLostError("crash", self.phase, f"{reason} in phase {self.phase}")

    def _kill(self) -> None:
        """End all processes of the worker, including those outside its process group, and release its resources.

        Does nothing if the worker has already been ended.
        """
        if self not in self._running:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(os.killpg, number)
            self._process.wait(GRACE_S)
        self._process.wait(KILL_TIMEOUT_S)
        self._process.release()
        self._running.discard(self)
        self._cleanup.clear()
        for descriptor in (self._requests, self._replies):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._requests = self._replies = -1
        self._log.close()

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        """Send a signal to the worker with `send`, which is `os.kill` or `os.killpg`.

        Does nothing if the worker has not been forked yet.
        """
        if self._process.pid is not None:
            with contextlib.suppress(OSError):
                send(self._process.pid, number)

    @property
    def log(self) -> Path | None:
        """The file that contains the output since the last call to `log_to`, or None if there was no output."""
        return self._log.written


Answer = TypeVar("Answer", bound=Notice)


def isolated_query(
    request: DescribeRequest | SupportRequest,
    answer: type[Answer],
    environment: Mapping[str, str],
    deadline_s: float,
    *,
    needs_torch: bool = True,
) -> tuple[list[Answer], dict[str, str]]:
    """Send a request to a worker. If a plugin or variant makes the worker crash or hang, repeat the request without it.

    The worker sends an AboutNotice with the name of a plugin or variant before it runs code of that plugin or variant.
    If the worker is lost, a new worker gets the same request with this name added to `skip`. Each notice must arrive
    within `deadline_s` seconds of the previous one.

    Returns the notices of type `answer`, and a dict that maps each skipped name to the reason why it was skipped.
    Raises PluginError if the request fails, or if a worker is lost and it is unclear which plugin or variant is the
    cause.
    """
    skip: dict[str, str] = {}
    while True:
        notices: list[Notice] = []
        worker = WorkerProcess(environment, needs_torch=needs_torch)
        try:
            reply = worker.request(msgspec.structs.replace(request, skip=skip), lambda _: deadline_s, notices.append)
        except WorkerLostError as lost:
            names = [notice.name for notice in notices if isinstance(notice, AboutNotice)]
            if not names or names[-1] in skip:
                raise PluginError(f"the plugins could not be queried: {lost.reason}") from lost
            skip[names[-1]] = f"no reply within {deadline_s:g} s" if lost.status == "timeout" else lost.reason
            continue
        finally:
            worker.stop()
        if isinstance(reply, FailedReply):
            raise PluginError(f"the plugins could not be queried: {reply.reason}")
        return [notice for notice in notices if isinstance(notice, answer)], skip
