"""A Ray cluster: one that is there, by its address, or this machine, for which Ray is started and ended here."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection
from typing import Any

from attnbench.cluster.backend import UNLABELLED, DeviceType, NodeLostError, Task
from attnbench.errors import UsageError, describe

TYPE = "ray.io/accelerator-type"
NODE = "ray.io/node-id"
ANSWER_S = 10.0
STORE_BYTES = 256 * 1024 * 1024  # for results on their way, of a Ray that is started here


class RayCluster:
    """Tasks as Ray's own: one GPU each (or one core), on a machine that bears the type's label, and never retried."""

    name = "ray"

    def __init__(self, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UsageError("--executor ray needs the package ray: pip install 'attnbench[ray]'") from None
        self._ray: Any = ray  # typed in part only
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if address not in ("local", "auto"):
            _require_answer(address)
        started_here: dict[str, Any] = (
            {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
        )
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **started_here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"no Ray cluster answers at {address!r}: {' '.join(str(error).split())}") from None

    def device_types(self) -> list[DeviceType]:
        """List the types of GPU, and of labelled or else `any` machines without one."""
        slots: dict[tuple[str, str], int] = {}
        for node in self._alive():
            kind, type_, count = _offer(node)
            if count:
                slots[type_, kind] = slots.get((type_, kind), 0) + count
        return [DeviceType(label, kind, count) for (label, kind), count in sorted(slots.items())]

    def nodes(self) -> list[dict[str, Any]]:
        """List the machines that are alive."""
        rows = []
        for node in self._alive():
            kind, type_, count = _offer(node)
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
        """Hand a task to Ray's scheduler."""
        remote = self._ray.remote(task).options(
            num_cpus=1,
            num_gpus=1 if device_type.kind == "cuda" else 0,
            max_retries=0,  # or a task that ends its machine would end several
            label_selector=self._selector(device_type),
        )
        return remote.remote(argument)

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait for one of the tasks."""
        done, _ = self._ray.wait(list(handles), timeout=timeout_s, fetch_local=False)
        return list(done)

    def result(self, handle: Any) -> dict[str, Any]:
        """Fetch what a task returned."""
        errors = self._ray.exceptions
        try:
            answer: dict[str, Any] = self._ray.get(handle)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            raise NodeLostError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
        return answer

    def cancel(self, handle: Any) -> None:
        """End a task."""
        self._ray.cancel(handle, force=True)

    def stop(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        self._ray.shutdown()

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _selector(self, device_type: DeviceType) -> dict[str, str]:
        if device_type.label != UNLABELLED:
            return {TYPE: device_type.label}
        nodes = [node["NodeID"] for node in self._alive() if _offer(node)[:2] == (device_type.kind, UNLABELLED)]
        return {NODE: f"in({', '.join(nodes)})"} if nodes else {}


def _require_answer(address: str) -> None:
    """Raise UsageError where nothing listens: Ray itself would go on trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--address {address!r} is no place of a Ray cluster: expected host:port, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"no Ray cluster answers at {address!r}: {describe(error)}") from None


def _offer(node: dict[str, Any]) -> tuple[str, str, int]:
    """Give the kind and type of a machine's devices, and how many it has."""
    type_ = node["Labels"].get(TYPE, UNLABELLED)
    gpus = int(node["Resources"].get("GPU", 0))
    return ("cuda", type_, gpus) if gpus else ("cpu", type_, int(node["Resources"].get("CPU", 0)))
