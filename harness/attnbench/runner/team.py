"""Several devices at once on one workload: each on its share, the slowest one's time counting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.process import WorkerProcess
from attnbench.plan.devices import Device, list_devices

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.workloads.workload import Workload

SPANNING = "ring"  # the split in which one call works on all devices


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


def with_teams(devices: Sequence[Device], workloads: Iterable[Workload]) -> list[Device]:
    """Add to devices of this machine the teams that workloads on several of them need, as far as there are enough.

    The whole CPU makes teams of its cores. Where there are too few, the largest team there can be stands in, so that a
    cell has a place to say so at.
    """
    counts = sorted({workload.gpus for workload in workloads} - {1})
    here = {device.name: device for device in list_devices()} if counts else {}
    slots = [device for device in here.values() if device.name.startswith("cpu:")]
    teams: dict[str, Device] = {}
    for kind in ("cpu", "cuda"):
        chosen = [device for device in devices if device.kind == kind and here.get(device.name) == device]
        pool = slots if any(device.name == "cpu" for device in chosen) else chosen
        for count in counts:
            if min(count, len(pool)) > 1:
                team = Device.team(pool[:count])
                teams[team.name] = team
    return [*devices, *(team for name, team in teams.items() if all(name != device.name for device in devices))]


def place_of(workload: Workload, devices: Sequence[Device]) -> list[Device]:
    """Give the devices on which a workload is a cell: each one by itself, or of each kind the team that fits best."""
    if workload.gpus == 1:
        return [device for device in devices if not device.members] or list(devices)
    found = []
    for kind in dict.fromkeys(device.kind for device in devices):
        own = [device for device in devices if device.kind == kind]
        found.append(max(own, key=lambda one: one.size if one.size <= workload.gpus else 0))
    return found


def misplaced(device: Device, variant: VariantEntry, workload: Workload) -> str | None:
    """Say why a variant can't do its workload on as many devices as these, or None."""
    w = workload
    if w.gpus == device.size == 1:
        return None
    if w.gpus != device.size:
        return f"needs {w.gpus} device{'s at once' if w.gpus > 1 else ''}, and has {device.size}: choose with --device"
    if w.split == SPANNING and variant.ranks != w.gpus:
        return f"split {SPANNING} is for variants that work on {w.gpus} devices by themselves, as a ring does"
    if w.split != SPANNING and variant.ranks > 1:
        return f"works on {variant.ranks} devices by itself: its split is {SPANNING}"
    return None
