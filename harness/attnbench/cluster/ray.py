"""Run tasks on a Ray cluster, which is either already running or started on this machine for a single run."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from queue import Empty, SimpleQueue
from typing import Any

from attnbench.cluster.backend import UNLABELLED, ClusterLostError, DeviceType, NodeLostError, Task
from attnbench.errors import UsageError, describe

TYPE_LABEL = "ray.io/accelerator-type"
NODE_LABEL = "ray.io/node-id"
CONNECT_TIMEOUT_S = 10.0
# The head may be away for this long. Ray itself ends the process without an exception after 60 s.
HEAD_TIMEOUT_S = 20.0
POLL_S = 1.0
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
        self._head = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address
        self._lost = False
        self._excluded: set[str] = set()  # the ids of nodes that get no further tasks
        # One remote function serves all tasks, because Ray exports each new one to all nodes and keeps it in memory.
        self._run_task = ray.remote(_run_task)

    def device_types(self) -> list[DeviceType]:
        """List the types of GPU and, for the nodes without a GPU, the types of CPU.

        Raises ClusterLostError if the head does not answer any more.
        """
        slots: dict[tuple[str, str], int] = {}
        for node in self._usable():
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
        remote = self._run_task.options(
            num_cpus=1,
            num_gpus=1 if device_type.kind == "cuda" else 0,
            max_retries=0,  # otherwise Ray would retry a task that has crashed its node, which could crash more nodes
            label_selector=self._label_selector(device_type),
        )
        return remote.remote(task, argument)

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait up to `timeout_s` seconds until at least one task finishes, and return the handles of finished tasks.

        Raises ClusterLostError if the head does not answer any more.
        """
        self._wait_for_head()
        done, _ = self._ray.wait(list(handles), timeout=timeout_s, fetch_local=False)
        return list(done)

    def result(self, handle: Any) -> dict[str, Any]:
        """Return the result of a finished task.

        Raises NodeLostError if the task's node or process was lost, and ClusterLostError if this machine's connection
        to the cluster was lost.
        """
        errors = self._ray.exceptions
        try:
            result: dict[str, Any] = self._ray.get(handle)
        except errors.RayTaskError:
            raise
        except errors.LocalRayletDiedError:  # no task can be submitted without this machine's raylet
            raise self._cluster_lost("the raylet on this machine has ended") from None
        except errors.RayError as error:
            raise NodeLostError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
        return result

    def exclude(self, node: str) -> None:
        """Submit no further tasks to a node, which is given by its id."""
        self._excluded.add(node)

    def cancel(self, handle: Any) -> None:
        """End a running task, or remove a waiting task from Ray's queue. Does nothing if the cluster was lost."""
        if not self._lost:
            self._ray.cancel(handle, force=True)

    def stop(self) -> None:
        """Disconnect from the cluster, and shut it down if it was started on this machine."""
        if self._lost:
            with contextlib.suppress(ClusterLostError):
                self._answer(self._ray.shutdown)
        else:
            self._ray.shutdown()

    def _alive(self) -> list[dict[str, Any]]:
        self._wait_for_head()
        return [node for node in self._answer(self._ray.nodes) if node["Alive"]]

    def _answer(self, ask: Callable[[], Any]) -> Any:
        """Return the answer of a function that asks the head.

        Raises ClusterLostError if there is none within HEAD_TIMEOUT_S. The function runs in a thread, because it does
        not return if the head stops meanwhile.
        """
        answers: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=lambda: answers.put(ask()), daemon=True).start()
        try:
            return answers.get(timeout=HEAD_TIMEOUT_S)
        except Empty:
            raise self._cluster_lost(f"its head at {self._head} does not answer") from None

    def _usable(self) -> list[dict[str, Any]]:
        return [node for node in self._alive() if node["NodeID"] not in self._excluded]

    def _wait_for_head(self) -> None:
        """Wait until the head accepts a connection. Raises ClusterLostError if it does not within HEAD_TIMEOUT_S."""
        deadline = time.monotonic() + HEAD_TIMEOUT_S
        while (problem := _connection_problem(self._head)) is not None:
            if time.monotonic() >= deadline:
                raise self._cluster_lost(f"its head at {self._head} does not answer ({problem})")
            time.sleep(POLL_S)

    def _cluster_lost(self, reason: str) -> ClusterLostError:
        self._lost = True
        return ClusterLostError(f"the Ray cluster was lost: {reason}")

    def _label_selector(self, device_type: DeviceType) -> dict[str, str]:
        """Return labels that only nodes with devices of this type have, except excluded ones.

        Nodes are left out with `!in`. With `in`, Ray chooses one of the nodes itself and waits until this one is free.
        """
        others = sorted(
            node["NodeID"]
            for node in self._alive()
            if node["NodeID"] in self._excluded or not self._offers(node, device_type)
        )
        labels = {} if device_type.label == UNLABELLED else {TYPE_LABEL: device_type.label}
        return {**labels, NODE_LABEL: f"!in({','.join(others)})"} if others else labels

    @staticmethod
    def _offers(node: dict[str, Any], device_type: DeviceType) -> bool:
        kind, label, count = _devices_of(node)
        return count > 0 and (kind, label) == (device_type.kind, device_type.label)


def _run_task(task: Task, argument: dict[str, Any]) -> dict[str, Any]:
    """Run a task on a node, and add the node's id to its result."""
    import ray

    return {**task(argument), "node": ray.get_runtime_context().get_node_id()}


def _check_address(address: str) -> None:
    """Raise UsageError if the address is invalid or no server accepts connections there.

    Without this check, Ray would try to connect for many minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--address {address!r} is not the address of a Ray cluster: expected host:port, or auto")
    if problem := _connection_problem(address):
        raise UsageError(f"no Ray cluster answers at {address!r}: {problem}")


def _connection_problem(address: str) -> str | None:
    """Return why no connection to `address` can be made, or None if a server accepts it."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        return describe(error)
    return None


def _devices_of(node: dict[str, Any]) -> tuple[str, str, int]:
    """Return the kind, the label and the number of a node's devices."""
    type_ = node["Labels"].get(TYPE_LABEL, UNLABELLED)
    gpus = int(node["Resources"].get("GPU", 0))
    return ("cuda", type_, gpus) if gpus else ("cpu", type_, int(node["Resources"].get("CPU", 0)))
