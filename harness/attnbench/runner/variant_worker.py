"""The worker process of one process of a variant, which is started, kept for many cells, and stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.isolation.worker_process import WorkerLostError
from attnbench.messages import DoneReply, FailedReply, LoadRequest, Reply, failure_reason
from attnbench.runner.places import WORKER_BYTES
from attnbench.runner.worker_team import start_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.plan.cells import Cell
    from attnbench.runner.worker_team import WorkerHandle


class VariantWorker:
    """A worker that has loaded a variant's plugin, or none while it is not needed.

    `host_memory_bytes` is the host memory that the worker may use. `deadline_s` is a function that returns how long a
    phase may take, in seconds.
    """

    def __init__(self, host_memory_bytes: int | None, deadline_s: Callable[[str], float]) -> None:
        self._host_memory_bytes, self._deadline_s = host_memory_bytes, deadline_s
        self._handle: WorkerHandle | None = None
        self._loaded: DoneReply | WorkerLostError | None = None
        self._first_held_bytes = 0  # the memory that the worker held when it had loaded its plugin
        self.seconds: dict[str, float] = {}  # by phase: the time in seconds that workers spent before they were stopped

    @property
    def is_running(self) -> bool:
        """Whether the worker is running."""
        return self._handle is not None

    @property
    def handle(self) -> WorkerHandle:
        """The running worker."""
        assert self._handle is not None, "start the worker first"  # noqa: S101 - callers always start it first
        return self._handle

    @property
    def log(self) -> Path | None:
        """The log file to which the worker has written, if any."""
        return self._handle.log if self._handle else None

    def start(self, cell: Cell, log: Path) -> None:
        """Start the worker but don't wait until it is ready, so that several workers can import torch in parallel.

        Its output is written to the file `log`. If the worker is running, nothing happens.
        """
        if self._handle is None:
            self._handle = start_worker(cell.device, cell.variant, self._host_memory_bytes)
            self._handle.log_to(log)
            variant = cell.variant
            self._handle.post(LoadRequest(variant.source, variant.name, cell.device.torch_name, variant.sha256))
            self._loaded = None

    def wait_until_loaded(self) -> None:
        """Wait until the started worker has loaded its plugin. If loading fails, `ready` raises the error."""
        if self._handle is None or self._loaded is not None:
            return
        try:
            reply = self._handle.wait(self._deadline_s)
            self._first_held_bytes = self._handle.held_bytes
            self._loaded = reply if isinstance(reply, DoneReply) else _loading_error(reply)
        except WorkerLostError as lost:
            self._loaded = lost

    def ready(self, cell: Cell, log: Path) -> WorkerHandle:
        """Return the worker for a cell once it has loaded its plugin. Start it if it is not running.

        Raises WorkerLostError if the plugin can't be loaded.
        """
        self.start(cell, log)
        self.wait_until_loaded()
        if isinstance(self._loaded, WorkerLostError):
            raise self._loaded
        self.handle.log_to(log)
        return self.handle

    def has_grown(self, kind: str) -> bool:
        """Return whether the worker of a device of this kind has grown by more than WORKER_BYTES since it has loaded.

        Libraries may keep what they prepare for each shape. With torch on a CPU, for example, each shape of bfloat16
        products was seen to add about a megabyte.
        """
        return self._handle is not None and self._handle.held_bytes - self._first_held_bytes > WORKER_BYTES[kind]

    def stop(self) -> None:
        """Stop the worker if it is running."""
        if self._handle is not None:
            for phase, seconds in self._handle.seconds.items():
                self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
            self._handle.stop()
            self._handle = None


def _loading_error(reply: Reply) -> WorkerLostError:
    if isinstance(reply, FailedReply):
        return WorkerLostError(reply.status, reply.phase, reply.reason)
    return WorkerLostError("error", "import", failure_reason(reply))
