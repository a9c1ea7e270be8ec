"""What a user asks a run for, and the plan that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError, unknown
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import Catalog, read_catalog, refuse_broken
from attnbench.plan.cells import Cell, Plan, choose_variants, choose_workloads, default_variants, make_plan
from attnbench.plan.placement import with_teams
from attnbench.runner.local_executor import LOCAL_EXECUTOR, Executor
from attnbench.workloads.suite import is_file

if TYPE_CHECKING:
    from attnbench.plan.devices import Device
    from attnbench.workloads.workload import Workload

REASONS_SHOWN = 3


@dataclass(frozen=True)
class Request:
    """What a user asked for, as the command line gives it.

    `workloads` are ids of workloads. `budget_s`, the seconds of sampling a cell, is what the suites say where it is
    None, and else the protocol's. Devices of one model share the cells, unless `every_device` is to measure them all.
    `baseline` is the variant that is timed a second time as the A/A control; None takes the one that says so itself.
    """

    suites: Sequence[str] = ()
    workloads: Sequence[str] = ()
    variants: Sequence[str] = ()
    devices: Sequence[str] = ()
    plugins: Sequence[str] = ()
    axes: Mapping[str, list[Any]] = dataclasses.field(default_factory=dict)
    protocol: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)
    budget_s: float | None = None
    results: Path = Path("results")
    name: str | None = None
    baseline: str | None = None
    every_device: bool = False
    strict_plugins: bool = False


def plan_of(request: Request, executor: Executor = LOCAL_EXECUTOR) -> tuple[Catalog, Plan]:
    """Turn a request into cells; raises UsageError for whatever in it is wrong, before anything runs.

    A request that names nothing takes the suite `standard` on every GPU, or else `quick` on the CPU, and the variants
    that belong to such a device by default.
    """
    catalog = read_catalog(request.plugins, strict=request.strict_plugins)
    refuse_broken(catalog, request.plugins)
    if request.baseline is not None:
        catalog = catalog.with_baseline(request.baseline)
    devices = executor.devices(request.devices)
    suites = list(request.suites)
    if not suites and not request.axes and not request.workloads:
        suites = [default_suite(devices)]
    variants = choose_variants(catalog, request.variants) if request.variants else default_variants(catalog, devices)
    workloads = choose_workloads(catalog, suites, request.axes, request.workloads)
    devices = with_teams(devices, workloads)
    protocol = _protocol_of(request, catalog, suites)
    if not variants:
        raise UsageError("no variant is there: `attnbench list plugins` says why")
    if request.baseline is not None and all(variant.name != request.baseline for variant in variants):
        raise unknown("baseline", request.baseline, [variant.name for variant in variants])
    protocols = {device.kind: protocol for device in devices}
    environments = {device.name: executor.environment_of(device, catalog.packages) for device in devices}
    asking = [name for name in suites if any(suite.frontier for suite in catalog.suites([name]))]
    searched = choose_workloads(catalog, asking, request.axes) if asking else []
    plan = make_plan(
        variants,
        workloads,
        devices,
        protocols,
        environments,
        every_device=request.every_device,
        frontier=set(searched),
    )
    return catalog, plan


def refuse_unrunnable(request: Request, catalog: Catalog, plan: Plan, unsupported: Mapping[str, str]) -> None:
    """Raise UsageError for a shape of a user's own suite file that none of the variants can run, with file and line.

    `unsupported` gives reasons by cell_id. Workloads that want more devices than there are wait for another machine.
    """
    files = [suite for suite in request.suites if is_file(suite)] if not request.axes else []
    cells_of: dict[Workload, list[Cell]] = {}
    for cell in plan.cells if files else ():
        cells_of.setdefault(cell.workload, []).append(cell)
    for grid in (grid for suite in catalog.suites(files) for grid in suite.grids):
        for workload in grid.workloads:
            cells = cells_of.get(workload, [])
            if workload.gpus == 1 and cells and all(cell.cell_id in unsupported for cell in cells):
                said = "; ".join(f"{cell.variant.name}: {unsupported[cell.cell_id]}" for cell in cells[:REASONS_SHOWN])
                raise UsageError(
                    f"{grid.where}: no variant can run {workload.id} ({said}): change the shape, take it out, or "
                    "choose other variants with --variant"
                )


def default_suite(devices: Sequence[Device]) -> str:
    """Name `standard` where there is a GPU, else `quick`."""
    return "standard" if any(device.kind == "cuda" for device in devices) else "quick"


def _protocol_of(request: Request, catalog: Catalog, suites: Sequence[str]) -> MeasureConfig:
    """Give the request's protocol with its budget, or with the longest of the suites' where every one has one."""
    budgets = [suite.budget_s for suite in catalog.suites(suites)]
    known = [seconds for seconds in budgets if seconds is not None]
    seconds = request.budget_s
    if seconds is None and known and len(known) == len(budgets) and not request.workloads:
        seconds = max(known)
    return request.protocol if seconds is None else request.protocol.within(seconds)
