"""The request for a run, and the functions that turn it into a plan."""

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

MAX_REASONS_SHOWN = 3


@dataclass(frozen=True)
class Request:
    """The options of `attnbench run` before validation.

    - `workloads`: the ids of individual workloads
    - `budget_s`: the maximum sampling time per cell in seconds. If None, the longest budget of the suites applies or,
      if a suite has no budget or `workloads` is not empty, the budget of `protocol`.
    - `every_device`: whether to measure every cell on every device, instead of sharing the cells among the devices of
      one model
    - `baseline`: the variant that all others are compared with. If None, it is a variant whose plugin declares it as a
      baseline.
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
    """Return the catalog of plugins and the plan for a request.

    If the request has no suites, axes or workloads, the plan uses the suite `standard` if one of the devices is a GPU,
    and the suite `quick` otherwise. If the request has no variants, the plan uses the variants that are enabled by
    default for the devices. Raises UsageError if the request is invalid.
    """
    devices = executor.devices(request.devices)
    catalog = read_catalog(request.plugins, strict=request.strict_plugins)
    refuse_broken(catalog, request.plugins)
    if request.baseline is not None:
        catalog = catalog.with_baseline(request.baseline)
    suites = list(request.suites)
    if not suites and not request.axes and not request.workloads:
        suites = [default_suite(devices)]
    variants = choose_variants(catalog, request.variants) if request.variants else default_variants(catalog, devices)
    workloads = choose_workloads(catalog, suites, request.axes, request.workloads)
    devices = with_teams(devices, workloads)
    protocol = _protocol_of(request, catalog, suites)
    if not variants:
        raise UsageError("no variants were found: `attnbench list plugins` shows why")
    if request.baseline is not None and all(variant.name != request.baseline for variant in variants):
        raise unknown("baseline", request.baseline, [variant.name for variant in variants])
    protocols = {device.kind: protocol for device in devices}
    environments = {device.name: executor.environment_of(device, catalog.packages) for device in devices}
    with_frontier = [name for name in suites if any(suite.frontier for suite in catalog.suites([name]))]
    searched = choose_workloads(catalog, with_frontier, request.axes) if with_frontier else []
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
    """Raise UsageError if one of the user's suite files contains a workload that no variant can run.

    The message names the file and the line. `unsupported` gives the reason for each unsupported cell, keyed by cell_id.
    Workloads for several devices are not checked, because the file may be intended for machines with more devices.
    """
    files = [suite for suite in request.suites if is_file(suite)] if not request.axes else []
    cells_of: dict[Workload, list[Cell]] = {}
    for cell in plan.cells if files else ():
        cells_of.setdefault(cell.workload, []).append(cell)
    for grid in (grid for suite in catalog.suites(files) for grid in suite.grids):
        for workload in grid.workloads:
            cells = cells_of.get(workload, [])
            if workload.gpus == 1 and cells and all(cell.cell_id in unsupported for cell in cells):
                reasons = "; ".join(
                    f"{cell.variant.name}: {unsupported[cell.cell_id]}" for cell in cells[:MAX_REASONS_SHOWN]
                )
                raise UsageError(
                    f"{grid.where}: no variant can run {workload.id} ({reasons}): change the shape, remove it, or "
                    "choose other variants with --variant"
                )


def refuse_nothing_to_time(plan: Plan, unsupported: Mapping[str, str]) -> None:
    """Raise UsageError if none of a plan's cells can run. The message names each variant with its reasons.

    `unsupported` gives the reason for each unsupported cell, keyed by cell_id.
    """
    if not all(cell.cell_id in unsupported for cell in plan.cells):
        return
    variants: dict[str, dict[str, None]] = {}  # the values are ordered sets of reasons
    for cell in plan.cells:
        variants.setdefault(cell.variant.name, {})[unsupported[cell.cell_id]] = None
    texts = [f"{name}: {_first(list(reasons), 'more reasons')}" for name, reasons in variants.items()]
    raise UsageError(
        f"nothing to time: {_first(texts, 'more variants')}; choose other variants with --variant, or another device"
        " with --device"
    )


def _first(texts: Sequence[str], rest: str) -> str:
    """Return the first texts, and the number of the others, which `rest` names."""
    left = len(texts) - MAX_REASONS_SHOWN
    return "; ".join([*texts[:MAX_REASONS_SHOWN], *([f"{left} {rest}"] if left > 0 else [])])


def default_suite(devices: Sequence[Device]) -> str:
    """Return `standard` if one of the devices is a GPU, and `quick` otherwise."""
    return "standard" if any(device.kind == "cuda" for device in devices) else "quick"


def _protocol_of(request: Request, catalog: Catalog, suites: Sequence[str]) -> MeasureConfig:
    """Return the request's measure config with the budget that applies.

    If the request has a `budget_s`, that budget applies. Otherwise the longest budget of the suites applies, unless a
    suite has no budget or the request names individual workloads. In these cases, the config keeps its own budget.
    """
    budgets = [suite.budget_s for suite in catalog.suites(suites)]
    known = [seconds for seconds in budgets if seconds is not None]
    seconds = request.budget_s
    if seconds is None and known and len(known) == len(budgets) and not request.workloads:
        seconds = max(known)
    return request.protocol if seconds is None else request.protocol.within(seconds)
