"""Start workers on single devices and on teams of devices.

The members of a team run their shares of one workload at the same time. The slowest member determines the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

import msgspec

from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.worker_process import WorkerProcess
from attnbench.messages import Block, CloseReply, FailedReply, OpenReply, ProfileReply, Reply, WorkerRequest

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device


class WorkerHandle(Protocol):
    """The common interface of a worker process and a team of workers."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """The time spent waiting for replies in each phase, in seconds."""

    @property
    def log(self) -> Path | None:
        """The file that contains the output since the last call to `log_to`, or None if there was no output."""

    @property
    def stopped_s(self) -> float:
        """The seconds for which the supervisor was stopped while it waited for replies."""

    @property
    def held_bytes(self) -> int:
        """The host memory that the process holds, in bytes; of a team, that of the member that holds the most."""

    def request(self, message: WorkerRequest, deadline_s: Callable[[str], float]) -> Reply:
        """Send a request and return its reply."""

    def post(self, message: WorkerRequest) -> None:
        """Send a request without waiting for its reply."""

    def wait(self, deadline_s: Callable[[str], float]) -> Reply:
        """Wait for the reply to the posted request, and return the reply."""

    def log_to(self, path: Path) -> None:
        """Write all further output to the file `path`."""

    def stop(self) -> None:
        """Stop the process, or all processes of the team."""


def start_worker(device: Device, variant: VariantEntry, host_memory_bytes: int | None) -> WorkerHandle:
    """Start a worker on a single device, or one worker for each member of a team.

    A variant that spans several devices (`ranks` > 1) gets a single worker for the whole team.
    """

    def start(part: Device) -> WorkerProcess:
        return WorkerProcess(part.worker_environment(), part.cores, host_memory(part.kind, host_memory_bytes))

    if device.members and variant.ranks == 1:
        return WorkerTeam([start(member) for member in device.members])
    return start(device)


class WorkerTeam:
    """The workers of a team. Each request is sent to all workers, and their replies are merged into one reply."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self._workers = workers

    @property
    def seconds(self) -> dict[str, float]:
        """The time spent waiting for the first member in each phase, in seconds.

        This time stands for the whole team, because all members work at the same time.
        """
        return self._workers[0].seconds

    @property
    def log(self) -> Path | None:
        """The file that contains the output of all members, or None if there was no output."""
        return next((worker.log for worker in self._workers if worker.log), None)

    @property
    def stopped_s(self) -> float:
        """The seconds for which the supervisor was stopped while it waited for the members, one after the other."""
        return sum(worker.stopped_s for worker in self._workers)

    @property
    def held_bytes(self) -> int:
        """The host memory in bytes of the member that holds the most."""
        return max(worker.held_bytes for worker in self._workers)

    def request(self, message: WorkerRequest, deadline_s: Callable[[str], float]) -> Reply:
        """Send a request to all members and return the merged reply.

        Raises WorkerLostError if a member's worker is lost.
        """
        self.post(message)
        return self.wait(deadline_s)

    def post(self, message: WorkerRequest) -> None:
        """Send a request to all members."""
        for worker in self._workers:
            worker.post(message)

    def wait(self, deadline_s: Callable[[str], float]) -> Reply:
        """Wait for the replies of all members and return the merged reply."""
        return slowest_reply([worker.wait(deadline_s) for worker in self._workers])

    def log_to(self, path: Path) -> None:
        """Write the output of all members to one file."""
        for worker in self._workers:
            worker.log_to(path)

    def stop(self) -> None:
        """Stop the workers of all members."""
        for worker in self._workers:
            worker.stop()


def slowest_reply(replies: Sequence[Reply]) -> Reply:
    """Merge the replies of a team's members into one reply.

    If any reply reports a failure or differs in type from the first reply, the first such reply is returned unchanged.
    If several do, a reply from a worker that has ended because of a CUDA error comes first.
    Otherwise the result is the slowest member's reply or, when a cell is closed, the reply of the member with the
    largest peak memory. The result for a block contains each member's median time as `rank_ns` in its telemetry, and
    the result for an opened cell contains the flags of all members, and that for a closed cell their suspicions.
    """
    for reply in sorted(replies, key=_lost_its_gpu, reverse=True):
        if isinstance(reply, FailedReply) or type(reply) is not type(replies[0]):
            return reply
    if blocks := [reply for reply in replies if isinstance(reply, Block)]:
        medians = [median(block.samples_ns) for block in blocks]
        slowest = blocks[medians.index(max(medians))]
        return msgspec.structs.replace(slowest, telemetry={**slowest.telemetry, "rank_ns": medians})
    if closed := [reply for reply in replies if isinstance(reply, CloseReply)]:
        suspicions = tuple(found for reply in closed for found in reply.suspicions)
        return msgspec.structs.replace(max(closed, key=lambda reply: reply.peak_bytes or 0), suspicions=suspicions)
    if profiles := [reply for reply in replies if isinstance(reply, ProfileReply)]:
        return msgspec.structs.replace(profiles[0], detached=all(reply.detached for reply in profiles))
    if opened := [reply for reply in replies if isinstance(reply, OpenReply)]:
        flags = dict.fromkeys(flag for reply in opened for flag in reply.flags)
        return msgspec.structs.replace(max(opened, key=lambda reply: reply.call_ns), flags=list(flags))
    return replies[0]


def _lost_its_gpu(reply: Reply) -> bool:
    return isinstance(reply, FailedReply) and reply.gpu_lost
