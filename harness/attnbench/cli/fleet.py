"""`attnbench devices`, and what `--executor` means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.cli.arguments import Address, ExecutorName, Json
from attnbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from attnbench.cluster.backend import Cluster
    from attnbench.runner.local_executor import Executor

EXECUTORS = ("local", "ray", "slurm")


def devices(executor: ExecutorName = "local", address: Address = None, json_: Json = False) -> None:
    """List the devices of this machine, or with --executor the machines of a fleet."""
    from attnbench.cli.listing import devices_here, print_rows

    cluster = find_cluster(executor, address)
    if cluster is None:
        rows = devices_here()
    else:
        try:
            rows = cluster.nodes()
        finally:
            cluster.stop()
    if json_:
        print(json.dumps(rows, indent=1))
    else:
        print_rows(rows)


def find_executor(name: str, address: str | None, types: Sequence[str], plugins: Sequence[str]) -> Executor:
    """Give the executor that the options name; raises UsageError."""
    cluster = find_cluster(name, address)
    if cluster is None:
        from attnbench.runner.local_executor import LOCAL_EXECUTOR

        if types:
            raise UsageError(f"--gpus {','.join(types)} chooses among a fleet's machines: give --executor ray or slurm")
        return LOCAL_EXECUTOR
    from attnbench.cluster.executor import ClusterExecutor

    return ClusterExecutor(cluster, types, plugins)


def find_cluster(name: str, address: str | None) -> Cluster | None:
    """Connect to the cluster that the options name; None for this machine alone. Raises UsageError."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if address is not None and name != "ray":
        raise UsageError("--address is where a Ray cluster answers: it needs --executor ray")
    made: Cluster | None = None
    if name == "ray":
        from attnbench.cluster.ray import RayCluster

        made = RayCluster(address)
    elif name == "slurm":
        from attnbench.cluster.slurm import SlurmCluster

        made = SlurmCluster()
    return made
