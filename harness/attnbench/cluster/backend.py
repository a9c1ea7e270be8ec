"""The interface to a cluster's scheduler, which is implemented for Ray and for Slurm."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from attnbench.errors import AttnbenchError

Task = Callable[[dict[str, Any]], dict[str, Any]]
UNLABELLED = "any"  # the label given to devices that have no label in the cluster


class NodeLostError(AttnbenchError):
    """Raised when the node that runs a task is lost. The task can be run again on another node."""


class ClusterLostError(AttnbenchError):
    """Raised when the cluster can't be reached any more, e.g. because its head has stopped. No task can be run."""


@dataclass(frozen=True)
class DeviceType:
    """All devices of one type in a cluster, for example all H100s.

    - `label`: the type's name, e.g. `H100`
    - `kind`: `cuda` or `cpu`
    - `slots`: the number of tasks that can run on devices of this type at the same time
    """

    label: str
    kind: str
    slots: int

    @property
    def name(self) -> str:
        """The type's name in plans and records, e.g. `cuda:H100`."""
        return f"{self.kind}:{self.label}"


class Cluster(Protocol):
    """A connection to a cluster. Tasks are functions from `cluster.node_task` that take and return JSON values."""

    name: str

    def device_types(self) -> list[DeviceType]:
        """List the types of devices that are currently available.

        Raises ClusterLostError if the cluster can't be reached any more.
        """

    def nodes(self) -> list[dict[str, Any]]:
        """Return a table with one row for each node that is currently available."""

    def submit(self, task: Task, argument: dict[str, Any], device_type: DeviceType) -> Any:
        """Queue a task for one device of the given type, and return the task's handle."""

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait up to `timeout_s` seconds until at least one task finishes, and return the handles of finished tasks."""

    def result(self, handle: Any) -> dict[str, Any]:
        """Return the result of a finished task, to which the cluster adds the name of the node, `node`.

        Raises NodeLostError if the task's node was lost, ClusterLostError if the cluster can't be reached any more, or
        another exception if the task failed.
        """

    def exclude(self, node: str) -> None:
        """Submit no further tasks to a node, which is given by the `node` that the cluster adds to each result."""

    def cancel(self, handle: Any) -> None:
        """End a running task, or remove a waiting task from the queue."""

    def stop(self) -> None:
        """Disconnect from the cluster and release all resources."""
