"""What a cluster's scheduler must offer so that plans can run on it; implemented for Ray and for Slurm."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from attnbench.errors import AttnbenchError

Task = Callable[[dict[str, Any]], dict[str, Any]]
UNLABELLED = "any"  # the label of devices that have none in the cluster


class NodeLostError(AttnbenchError):
    """The node that ran a task was lost; the task may be run on another node."""


@dataclass(frozen=True)
class DeviceType:
    """All devices of one type in a cluster, for example every H100.

    `kind` is `cuda` or `cpu`, and `slots` is the number of tasks that can run on such devices at the same time.
    """

    label: str
    kind: str
    slots: int

    @property
    def name(self) -> str:
        """The device's name in plans and records, e.g. `cuda:H100`."""
        return f"{self.kind}:{self.label}"


class Cluster(Protocol):
    """A connection to a cluster. Tasks are functions of `cluster.task`; arguments and results are JSON values."""

    name: str

    def device_types(self) -> list[DeviceType]:
        """List the types of devices that are available now."""

    def nodes(self) -> list[dict[str, Any]]:
        """List the nodes that are available now, as rows of a table."""

    def submit(self, task: Task, argument: dict[str, Any], device_type: DeviceType) -> Any:
        """Queue a task for one device of a type and return the task's handle."""

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait until at least one of the tasks is done, or for `timeout_s`, and return the handles of those done."""

    def result(self, handle: Any) -> dict[str, Any]:
        """Return what a finished task returned; raises NodeLostError, or the task's own exception."""

    def cancel(self, handle: Any) -> None:
        """End a task, or remove it from the queue."""

    def stop(self) -> None:
        """Disconnect, and release what the connection holds."""
