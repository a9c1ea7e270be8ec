"""Creation of the executor that the options `--executor` and `--address` name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from attnbench.cluster.backend import Cluster
    from attnbench.runner.local_executor import Executor

EXECUTORS = ("local", "ray", "slurm")


def find_executor(name: str, address: str | None, types: Sequence[str], plugins: Sequence[str]) -> Executor:
    """Return the executor that the options name; `types` are the types of GPU to use on a cluster.

    Raises UsageError for an unknown name, and for an option that the executor does not support.
    """
    cluster = find_cluster(name, address)
    if cluster is None:
        from attnbench.runner.local_executor import LOCAL_EXECUTOR

        if types:
            raise UsageError(f"--gpus {','.join(types)} selects machines of a cluster: add --executor ray or slurm")
        return LOCAL_EXECUTOR
    from attnbench.cluster.executor import ClusterExecutor

    return ClusterExecutor(cluster, types, plugins)


def find_cluster(name: str, address: str | None) -> Cluster | None:
    """Connect to the cluster that the options name and return it, or None for the executor `local`.

    Raises UsageError for an unknown name, and for an address without the executor `ray`.
    """
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if address is not None and name != "ray":
        raise UsageError("--address is the address of a Ray cluster: add --executor ray")
    cluster: Cluster | None = None
    if name == "ray":
        from attnbench.cluster.ray import RayCluster

        cluster = RayCluster(address)
    elif name == "slurm":
        from attnbench.cluster.slurm import SlurmCluster

        cluster = SlurmCluster()
    return cluster
