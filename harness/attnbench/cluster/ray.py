"""Run tasks on a Ray cluster, which is either already running or started on this machine for a single run."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection
from typing import Any

from attnbench.cluster.backend import UNLABELLED, DeviceType, NodeLostError, Task
from attnbench.errors import UsageError, describe

TYPE_LABEL = "ray.io/accelerator-type"
NODE_LABEL = "ray.io/node-id"
CONNECT_TIMEOUT_S = 10.0
OBJECT_STORE_BYTES = 256 * 1024 * 1024  # size of the object store if the cluster is started on this machine


class RayCluster:
    """A Ray cluster. Each task gets one GPU or one core on a node that is labelled with the requested type of device.

    If `address` is None, the cluster at the address in the environment variable RAY_ADDRESS is used. If this variable
    is not set either, a new cluster is started on this machine.
    """

    name = "ray"

    def __init__(self, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UsageError("--executor ray needs the package ray: pip install 'attnbench[ray]'") from None
        self._ray: Any = ray  # Any, because Ray has only partial type annotations
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if address not in ("local", "auto"):
            _check_address(address)
        started_here: dict[str, Any] = (
            {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if address == "local" else {}
        )
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **started_here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"no Ray cluster answers at {address!r}: {' '.join(str(error).split())}") from None

    def device_types(self) -> list[DeviceType]:
        """List the types of GPU and, for the nodes without a GPU, the types of CPU."""
        slots: dict[tuple[str, str], int] = {}
        for node in self._alive():
            kind, type_, count = _devices_of(node)
            if count:
                slots[type_, kind] = slots.get((type_, kind), 0) + count
        return [DeviceType(label, kind, count) for (label, kind), count in sorted(slots.items())]

    def nodes(self) -> list[dict[str, Any]]:
        """Return a table with one row for each live node."""
        rows = []
        for node in self._alive():
            kind, type_, count = _devices_of(node)
            memory = node["Resources"].get("memory")
            rows.append(
                {
                    "machine": node["NodeManagerHostname"],
                    "address": node["NodeManagerAddress"],
                    "device": f"{kind}:{type_}",
                    "devices": count,
                    "memory_gib": round(memory / 2**30, 1) if memory else None,
                }
            )
        return rows

    def submit(self, task: Task, argument: dict[str, Any], device_type: DeviceType) -> Any:
        """Queue a task with Ray's scheduler and return the task's handle."""
        remote = self._ray.remote(task).options(
            num_cpus=1,
            num_gpus=1 if device_type.kind == "cuda" else 0,
            max_retries=0,  # otherwise Ray would retry a task that has crashed its node, which could crash more nodes
            label_selector=self._label_selector(device_type),
        )
        return remote.remote(argument)

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait up to `timeout_s` seconds until at least one task finishes, and return the handles of finished tasks."""
        done, _ = self._ray.wait(list(handles), timeout=timeout_s, fetch_local=False)
        return list(done)

    def result(self, handle: Any) -> dict[str, Any]:
        """Return the result of a finished task.

        Raises NodeLostError if the task's node or process was lost.
        """
        errors = self._ray.exceptions
        try:
            result: dict[str, Any] = self._ray.get(handle)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            raise NodeLostError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
        return result

    def cancel(self, handle: Any) -> None:
        """End a running task, or remove a waiting task from Ray's queue."""
        self._ray.cancel(handle, force=True)

    def stop(self) -> None:
        """Disconnect from the cluster, and shut it down if it was started on this machine."""
        self._ray.shutdown()

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _label_selector(self, device_type: DeviceType) -> dict[str, str]:
        if device_type.label != UNLABELLED:
            return {TYPE_LABEL: device_type.label}
        nodes = [node["NodeID"] for node in self._alive() if _devices_of(node)[:2] == (device_type.kind, UNLABELLED)]
        return {NODE_LABEL: f"in({', '.join(nodes)})"} if nodes else {}


def _check_address(address: str) -> None:
    """Raise UsageError if the address is invalid or no server accepts connections there.

    Without this check, Ray would try to connect for many minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--address {address!r} is not the address of a Ray cluster: expected host:port, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"no Ray cluster answers at {address!r}: {describe(error)}") from None


def _devices_of(node: dict[str, Any]) -> tuple[str, str, int]:
    """Return the kind, the label and the number of a node's devices."""
    type_ = node["Labels"].get(TYPE_LABEL, UNLABELLED)
    gpus = int(node["Resources"].get("GPU", 0))
    return ("cuda", type_, gpus) if gpus else ("cpu", type_, int(node["Resources"].get("CPU", 0)))
