"""The `attnbench devices` command."""

from __future__ import annotations

import json
from typing import Any

from attnbench.cli.arguments import Address, ExecutorName, Json


def devices(executor: ExecutorName = "local", address: Address = None, json_: Json = False) -> None:
    """List the devices of this machine, or the machines of a cluster.

    By default, this machine's devices are listed, and GPUs that can't be used with the reason. With --executor ray or
    slurm, the cluster's machines are listed.
    """
    from attnbench.cli.executors import find_cluster
    from attnbench.cli.output import print_rows

    cluster = find_cluster(executor, address)
    if cluster is None:
        rows = local_devices()
    else:
        try:
            rows = cluster.nodes()
        finally:
            cluster.stop()
    if json_:
        print(json.dumps(rows, indent=1))
    else:
        print_rows(rows)


def local_devices() -> list[dict[str, Any]]:
    """Return the devices of this machine as rows of a table.

    `problem` says why a GPU can't be used, and what would help. GPUs that this process may not use have no device name.
    """
    from attnbench.machine.gpu_support import gpu_problem
    from attnbench.machine.gpus import list_gpus
    from attnbench.plan.devices import list_devices

    listed = list_gpus()
    found = gpu_problem(listed=listed)
    problem = None if found is None else str(found)
    rows = [
        {
            "device": device.name,
            "model": device.model,
            "memory_gib": round(device.memory_bytes / 2**30, 1) if device.memory_bytes else None,
            "driver": device.driver,
            "problem": problem if device.kind == "cuda" else None,
        }
        for device in list_devices()
    ]
    unusable = [(f"GPU {index}", str(reason)) for index, reason in listed.unusable]
    if problem is not None and not listed.visible:
        unusable.append(("all GPUs", problem))
    nothing = {"device": None, "memory_gib": None, "driver": listed.driver}
    return [*rows, *({**nothing, "model": model, "problem": reason} for model, reason in unusable)]
