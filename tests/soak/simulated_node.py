"""Run the `attnbench` command with a stand-in for the tasks on a cluster's nodes, which replies without measuring."""

from __future__ import annotations

import functools
import json
import platform
import random
from typing import Any

import msgspec

from attnbench.cli import main
from attnbench.cluster import node_task
from attnbench.cluster.node_task import GroupOrder, GroupResult
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import Catalog, read_catalog
from attnbench.plan.cells import Plan, make_plan
from attnbench.plan.devices import list_devices
from attnbench.plan.environment import environment_of
from attnbench.record import Record
from attnbench.workloads.workload import Workload

BLOCKS, CALLS = 10, 5  # of each cell


def measure_group(argument: dict[str, Any]) -> dict[str, Any]:
    """Return a GroupResult, as JSON values, with a record for each cell that a GroupOrder asks for."""
    order = msgspec.convert(argument, GroupOrder)
    plan = _plan(order)
    environment = dict(next(iter(plan.environments.values())))
    records = [json.loads(_record(order, cell, environment).to_line()) for cell in plan.cells]
    peaks = {dtype: {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e12} for dtype in order.peak_dtypes}
    result = GroupResult(
        host=platform.node(), device="cpu:0", environment=environment, records=records, peaks=peaks, useful_s=0.01
    )
    return msgspec.to_builtins(result)


@functools.cache
def _catalog() -> Catalog:
    return read_catalog()


@functools.cache
def _device() -> Any:
    return next(device for device in list_devices() if device.name == "cpu:0")


def _plan(order: GroupOrder) -> Plan:
    device, catalog = _device(), _catalog()
    return make_plan(
        [catalog.variants[name] for name in order.variants],
        [Workload.from_json(order.workload)],
        [device],
        {device.kind: MeasureConfig.from_json(order.protocol)},
        {device.name: environment_of(device, catalog.packages)},
    )


def _record(order: GroupOrder, cell: Any, environment: dict[str, Any]) -> Record:
    source = random.Random(cell.cell_id)  # noqa: S311 - simulated noise
    return Record(
        record_id=f"{source.getrandbits(64):016x}",
        run_id=order.run,
        cell_id=cell.cell_id,
        variant=cell.variant.name,
        plugin=cell.variant.plugin,
        plugin_sha256=cell.variant.sha256,
        workload=cell.workload,
        device=order.device,
        device_name=environment["device_name"],
        environment_id=environment["environment_id"],
        protocol_id=MeasureConfig.from_json(order.protocol).protocol_id,
        status="ok",
        phase="done",
        started_at="2026-01-01T12:00:00+00:00",
        ended_at="2026-01-01T12:00:01+00:00",
        samples_ns=tuple(source.gauss(1e4, 1e2) for _ in range(BLOCKS * CALLS)),
        block_sizes=(CALLS,) * BLOCKS,
        block_rounds=tuple(range(BLOCKS)),
        block_processes=tuple(number % 2 for number in range(BLOCKS)),
        telemetry={"blocks": [{"throttle": []} for _ in range(BLOCKS)]},
    )


if __name__ == "__main__":
    import simulated_node  # the nodes import the task by this name

    node_task.measure_group = simulated_node.measure_group
    main()
