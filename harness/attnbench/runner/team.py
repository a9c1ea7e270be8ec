"""Several devices at once on one workload: each on its share, the slowest one's time counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.process import WorkerProcess

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device


class Worker(Protocol):
    """What a lane needs of the process, or processes, that serve it."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds waited in each phase."""

    @property
    def log(self) -> Path | None:
        """The file that holds the output since `log_to`; None if there was none."""

    def request(self, operation: str, deadline_s: Callable[[str], float], **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its reply."""

    def post(self, operation: str, **fields: Any) -> None:
        """Send one request."""

    def wait(self, deadline_s: Callable[[str], float]) -> dict[str, Any]:
        """Wait for the reply."""

    def log_to(self, path: Path) -> None:
        """Send output to another file from now on."""

    def stop(self) -> None:
        """End it."""


def start_worker(device: Device, variant: VariantEntry, host_memory_bytes: int | None) -> Worker:
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

    def request(self, operation: str, deadline_s: Callable[[str], float], **fields: Any) -> dict[str, Any]:
        """Ask all at once; raises WorkerLostError where one is lost."""
        self.post(operation, **fields)
        return self.wait(deadline_s)

    def post(self, operation: str, **fields: Any) -> None:
        """Send one request to all."""
        for worker in self._workers:
            worker.post(operation, **fields)

    def wait(self, deadline_s: Callable[[str], float]) -> dict[str, Any]:
        """Wait for all replies and join them."""
        return joined([worker.wait(deadline_s) for worker in self._workers])

    def log_to(self, path: Path) -> None:
        """Send all output to one file."""
        for worker in self._workers:
            worker.log_to(path)

    def stop(self) -> None:
        """End all."""
        for worker in self._workers:
            worker.stop()


def joined(replies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make one reply of the members': the first that failed, else the slowest's with what the others say added."""
    failed = next((reply for reply in replies if reply.get("status") not in ("ready", "ok")), None)
    if failed is not None:
        return failed
    if "samples_ns" in replies[0]:
        medians = [median(reply["samples_ns"]) for reply in replies]
        slowest = replies[medians.index(max(medians))]
        return {**slowest, "telemetry": {**slowest["telemetry"], "rank_ns": medians}}
    if "memory" in replies[0]:
        return max(replies, key=lambda reply: reply["memory"].get("peak_bytes") or 0)
    if "call_ns" in replies[0]:
        flags = dict.fromkeys(flag for reply in replies for flag in reply.get("flags", []))
        return {**max(replies, key=lambda reply: reply["call_ns"]), "flags": list(flags)}
    return replies[0]
