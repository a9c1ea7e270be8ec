"""Functions that create the executor or cluster for the options `--executor` and `--address`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from attnbench.cluster.backend import Cluster
    from attnbench.runner.local_executor import Executor

EXECUTORS = ("local", "ray", "slurm")


def find_executor(name: str, address: str | None, types: Sequence[str], plugins: Sequence[str]) -> Executor:
    """Return the executor called `name`.

    `types` are the GPU types to use on a cluster, and `plugins` are the values that were given with `--plugin`. Raises
    UsageError if the name is unknown, or if the executor does not support one of the options.
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
    """Create and return the cluster for the executor `name`, or return None for the `local` executor.

    Raises UsageError if the name is unknown, or if an address is given for an executor other than `ray`.
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
