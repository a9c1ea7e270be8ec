"""Several devices at once on one workload: each on its share, the slowest one's time counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

import msgspec

from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.process import WorkerProcess
from attnbench.messages import Block, CloseReply, FailedReply, OpenReply, Reply, WorkerRequest

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device


class WorkerHandle(Protocol):
    """What a runner needs of the process, or processes, that serve it."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds waited in each phase."""

    @property
    def log(self) -> Path | None:
        """The file that holds the output since `log_to`; None if there was none."""

    def request(self, message: WorkerRequest, deadline_s: Callable[[str], float]) -> Reply:
        """Send one request and wait for its reply."""

    def post(self, message: WorkerRequest) -> None:
        """Send one request."""

    def wait(self, deadline_s: Callable[[str], float]) -> Reply:
        """Wait for the reply."""

    def log_to(self, path: Path) -> None:
        """Send output to another file from now on."""

    def stop(self) -> None:
        """End it."""


def start_worker(device: Device, variant: VariantEntry, host_memory_bytes: int | None) -> WorkerHandle:
    """Start a process on the device; on a team one for each member, or one that sees all if the variant spans them."""

    def started(one: Device) -> WorkerProcess:
        return WorkerProcess(one.worker_environment(), one.cores, host_memory(one.kind, host_memory_bytes))

    if device.members and variant.ranks == 1:
        return WorkerTeam([started(member) for member in device.members])
    return started(device)


class WorkerTeam:
    """The workers of a team's members, asked side by side; replies become one, that of the slowest."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self._workers = workers

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds waited in each phase, for one member: they work at once."""
        return self._workers[0].seconds

    @property
    def log(self) -> Path | None:
        """The file that holds the members' output."""
        return next((worker.log for worker in self._workers if worker.log), None)

    def request(self, message: WorkerRequest, deadline_s: Callable[[str], float]) -> Reply:
        """Ask all at once; raises WorkerLostError where one is lost."""
        self.post(message)
        return self.wait(deadline_s)

    def post(self, message: WorkerRequest) -> None:
        """Send one request to all."""
        for worker in self._workers:
            worker.post(message)

    def wait(self, deadline_s: Callable[[str], float]) -> Reply:
        """Wait for all replies and join them."""
        return slowest_reply([worker.wait(deadline_s) for worker in self._workers])

    def log_to(self, path: Path) -> None:
        """Send all output to one file."""
        for worker in self._workers:
            worker.log_to(path)

    def stop(self) -> None:
        """End all."""
        for worker in self._workers:
            worker.stop()


def slowest_reply(replies: Sequence[Reply]) -> Reply:
    """Return the members' replies as one: the first that failed, else that of the slowest or largest member.

    The slowest block gets the members' medians as `rank_ns` in its telemetry; an opened cell gets all members' flags.
    """
    for reply in replies:
        if isinstance(reply, FailedReply) or type(reply) is not type(replies[0]):
            return reply
    if blocks := [reply for reply in replies if isinstance(reply, Block)]:
        medians = [median(block.samples_ns) for block in blocks]
        slowest = blocks[medians.index(max(medians))]
        return msgspec.structs.replace(slowest, telemetry={**slowest.telemetry, "rank_ns": medians})
    if closed := [reply for reply in replies if isinstance(reply, CloseReply)]:
        return max(closed, key=lambda reply: reply.peak_bytes or 0)
    if opened := [reply for reply in replies if isinstance(reply, OpenReply)]:
        flags = dict.fromkeys(flag for reply in opened for flag in reply.flags)
        return msgspec.structs.replace(max(opened, key=lambda reply: reply.call_ns), flags=list(flags))
    return replies[0]
