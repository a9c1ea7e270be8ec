"""The machines of a cluster as one executor: orders go out group by group, records come back and are stored here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attnbench.cluster import task as errand
from attnbench.cluster.dispatch import Dispatch
from attnbench.errors import AttnbenchError, UsageError, unknown
from attnbench.plan.devices import Device

if TYPE_CHECKING:
    from collections.abc import Collection

    from attnbench.plan.cells import Cell, Plan
    from attnbench.record import Record
    from attnbench.runner.limits import Terms
    from attnbench.runner.scheduler import Summary

Task = Callable[[dict[str, Any]], dict[str, Any]]
UNLABELLED = "any"  # the type of a machine without a GPU that bears no label


class NodeLostError(AttnbenchError):
    """The machine that ran a task went away; the task may run on another."""


@dataclasses.dataclass(frozen=True)
class Site:
    """All devices of one type in a fleet, e.g. every H100; `slots` says how many there are now."""

    type: str
    kind: str
    slots: int

    @property
    def name(self) -> str:
        """The device's name in plans and records, e.g. `cuda:H100`."""
        return f"{self.kind}:{self.type}"


class Cluster(Protocol):
    """What a fleet needs of a scheduler. Tasks are functions of `errand`, named by reference; arguments are JSON."""

    name: str

    def sites(self) -> list[Site]:
        """List the types of devices that there are now."""

    def nodes(self) -> list[dict[str, Any]]:
        """List the machines that there are now, as rows for people."""

    def submit(self, task: Task, order: dict[str, Any], site: Site) -> Any:
        """Start a task on one device of a site, as soon as one is free, and give its handle."""

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait for at least one of the tasks, `timeout_s` at most, and give those that are done."""

    def outcome(self, handle: Any) -> dict[str, Any]:
        """Give what a finished task returned; raises NodeLostError, or what the task raised."""

    def cancel(self, handle: Any) -> None:
        """End a task, or never start it."""

    def stop(self) -> None:
        """Let the cluster go."""


class Fleet:
    """An executor that sends each group of variants to a machine of the right type."""

    def __init__(self, cluster: Cluster, types: Sequence[str] = (), plugins: Sequence[str] = ()) -> None:
        self.name = cluster.name
        self._cluster, self._types = cluster, list(types)
        self._parcel = errand.parcel(plugins)
        self._described: dict[str, dict[str, Any]] = {}

    def devices(self, names: Sequence[str]) -> list[Device]:
        """Pick types of devices: those of `--gpus`, else by name (`cuda:H100`, or `cpu`), else every type of GPU.

        A machine of each type is asked what it is. Raises UsageError for a type that the fleet has not.
        """
        sites = {site.name: site for site in self._cluster.sites()}
        chosen = self._chosen(sites, names)
        unknown_yet = [site for site in chosen if site.name not in self._described]
        asked = {self._cluster.submit(errand.describe, {"plugins": self._parcel}, site): site for site in unknown_yet}
        waiting = set(asked)
        while waiting:
            for handle in self._cluster.finished(waiting, 60.0):
                self._described[asked[handle].name] = self._cluster.outcome(handle)
                waiting.discard(handle)
        return [self._device(site) for site in chosen]

    def environment_of(self, device: Device, packages: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002 - the machine lists those of its own plugins
        """Describe the environment of the machine that was asked; each record bears that of its own."""
        environment: dict[str, Any] = self._described[device.name]["environments"][device.kind]
        return environment

    @contextmanager
    def reserve(self, run: Path, plan: Plan) -> Iterator[None]:  # noqa: ARG002 - a cluster's scheduler reserves
        """Leave it to the scheduler to give a device to one task at a time, and to each machine to lock it."""
        try:
            yield
        finally:
            self._cluster.stop()

    def sweep(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        terms: Terms,
    ) -> Summary:
        """Send out all groups and store what comes back."""
        dispatch = Dispatch(self._cluster, run, plan, self._parcel, started=started, stored=stored, terms=terms)
        return dispatch.execute()

    def _chosen(self, sites: dict[str, Site], names: Sequence[str]) -> list[Site]:
        by_type = {site.type: site for site in sites.values()}
        chosen: dict[str, Site] = {}
        for wanted in () if names else self._types:
            if wanted not in by_type:
                raise unknown("type of device", wanted, by_type)
            chosen[by_type[wanted].name] = by_type[wanted]
        for name in names:
            matching = [site for site in sites.values() if name in (site.name, site.kind)]
            if not matching:
                raise unknown("device of the fleet", name, [*sites, *(site.kind for site in sites.values())])
            chosen.update((site.name, site) for site in matching)
        gpus = [site for site in sites.values() if site.kind == "cuda"]
        found = list(chosen.values()) or gpus or list(sites.values())
        if not found:
            raise UsageError(f"the {self.name} cluster has no device: no GPU, and no CPU that tasks may use")
        return found

    def _device(self, site: Site) -> Device:
        answer = self._described[site.name]
        devices = [Device(**fields) for fields in answer["devices"]]
        first = next((one for one in devices if one.kind == site.kind), None)
        if first is None:
            raise UsageError(
                f"machine {answer['host']} is said to have {site.type}, but no {site.kind} device is there"
            )
        return dataclasses.replace(first, name=site.name, near_cores=(), uuid=f"{self.name}/{site.name}")
