"""A run from its request to its last record."""

from __future__ import annotations

import dataclasses
import json
import secrets
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import store
from attnbench.errors import StorageError, UsageError, unknown
from attnbench.isolation import forkserver
from attnbench.isolation.cleanup import clear_abandoned
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import Catalog, read_catalog, refuse_broken
from attnbench.plan.cells import Cell, Plan, choose_variants, choose_workloads, default_variants, make_plan
from attnbench.plan.environment import machine_facts
from attnbench.plan.memory_frontier import PREDICTED
from attnbench.plan.placement import with_teams
from attnbench.record import SCHEMA, STATUSES, Record
from attnbench.runner import locks
from attnbench.runner.limits import CellLimits
from attnbench.runner.listener import RunListener
from attnbench.runner.local_executor import LOCAL_EXECUTOR, Executor
from attnbench.runner.observers import Observers
from attnbench.workloads.suite import is_file
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.plan.devices import Device
    from attnbench.runner.scheduler import RunSummary


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


def start(request: Request, catalog: Catalog, plan: Plan) -> Path:
    """Make the folder of a new run, with its manifest; raises UsageError where that can't be."""
    name = request.name or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if not name.strip(".") or "/" in name or "\0" in name:
        raise UsageError(f"run name {name!r}: expected a folder's name, without '/'")
    store.require_space(request.results, len(plan.cells))
    return store.create_run(request.results, name, manifest_of(name, request, catalog, plan))


def resumed(
    run: Path, *, retry_failed: bool = False, exhaustive: bool = False, executor: Executor = LOCAL_EXECUTOR
) -> tuple[Catalog, Plan]:
    """Give the cells of a run that are missing, interrupted or stale, and with `retry_failed` those that failed.

    A cell is stale when what would change its number (plugin, protocol, driver, torch ...) gives it another id now.
    With `exhaustive` those count as missing that were only predicted to run out of memory.
    Raises UsageError where a variant or device of the plan is not here any more.
    """
    manifest = store.read_manifest(run)
    store.require_space(run, len(manifest["plan"]))
    catalog = _catalog_of(manifest, store.plugin_arguments(manifest))
    every_device = store.measures_on_every_device(manifest)
    settled = {"ok", "unsupported"} if retry_failed else set(STATUSES) - {"interrupted"}
    done = {
        key
        for key, record in store.latest(run).items()
        if record.status in settled and not (exhaustive and PREDICTED in record.flags)
    }
    planned = [(cell["variant"], Workload.from_json(cell["workload"]), cell["device"]) for cell in manifest["plan"]]
    plan = _plan_of_cells(catalog, planned, manifest, executor)
    missing = tuple(
        cell
        for cell in plan.cells
        if store.cell_key(cell.device.name, cell.cell_id, every_device=every_device) not in done
    )
    searched = set(manifest.get("frontier", []))
    frontier = tuple(cell for cell in plan.cells if cell.workload.id in searched)
    return catalog, dataclasses.replace(plan, cells=missing, frontier=frontier)


def again(
    run: Path, cells: Sequence[tuple[str, Workload, str]], results: Path, plugins: Sequence[str]
) -> tuple[Path, Catalog, Plan]:
    """Make a new run of some cells (variant, workload, device) of an old one, under the old one's protocol."""
    manifest = store.read_manifest(run)
    arguments = [*store.plugin_arguments(manifest), *plugins]
    catalog = _catalog_of(manifest, arguments)
    plan = _plan_of_cells(catalog, cells, manifest, LOCAL_EXECUTOR)
    request = Request(plugins=arguments, results=results, name=f"{run.name}-again-{secrets.token_hex(2)}")
    return start(request, catalog, plan), catalog, plan


def _catalog_of(manifest: Mapping[str, Any], plugins: Sequence[str]) -> Catalog:
    """Read the catalog of a run that was made before, with the baseline that it had."""
    catalog, baseline = read_catalog(plugins), store.declared_baseline(manifest)
    return catalog if baseline is None else catalog.with_baseline(baseline)


def _plan_of_cells(
    catalog: Catalog, cells: Sequence[tuple[str, Workload, str]], manifest: Mapping[str, Any], executor: Executor
) -> Plan:
    """Plan some cells (variant, workload, device) of a run under its own protocol."""
    protocols = {kind: MeasureConfig.from_json(fields) for kind, fields in manifest["protocols"].items()}
    named = {device for _, _, device in cells}
    shared = () if store.measures_on_every_device(manifest) else manifest.get("devices", ())
    devices = _present(sorted({*named, *shared}), named, manifest, executor)
    environments = {device.name: executor.environment_of(device, catalog.packages) for device in devices.values()}
    plans = (
        make_plan(choose_variants(catalog, [variant]), [workload], [devices[device]], protocols, environments)
        for variant, workload, device in cells
    )
    sharing = tuple(dict.fromkeys(devices[name] for name in shared if name in devices))
    return Plan(tuple(cell for plan in plans for cell in plan.cells), protocols, environments, sharing)


def _present(
    names: Sequence[str], needed: Collection[str], manifest: Mapping[str, Any], executor: Executor
) -> dict[str, Device]:
    """Find the devices of a run again, by their old names; another of its model stands in for one that has gone."""
    found: dict[str, Device] = {}
    gone: dict[str, UsageError] = {}
    for name in names:
        try:
            found[name] = executor.devices([name])[0]
        except UsageError as error:
            gone[name] = error
    for name, absence in gone.items():
        model = manifest["environments"].get(name, {}).get("device_name")
        alike = [device for device in found.values() if device.model == model]
        stand_in = alike[0] if alike and not store.measures_on_every_device(manifest) else None
        if stand_in is not None:
            found[name] = stand_in
        elif name in needed:
            raise absence
    return found


def execute(
    run: Path,
    catalog: Catalog,
    plan: Plan,
    *,
    executor: Executor = LOCAL_EXECUTOR,
    limits: CellLimits | None = None,
    listener: RunListener | None = None,
) -> RunSummary:
    """Work a plan off into a run's folder, with `listener` observers of each step, and say what it came to.

    Raises UsageError where another process holds one of the devices or works on this run, and StorageError where the
    disk is full.
    """
    began = time.monotonic()
    listener = listener or RunListener()
    clear_abandoned()
    with (
        locks.hold_run(run),
        executor.reserve(run, plan),
        Observers(catalog, run / "logs" / "observers.log") as observers,
    ):

        def cell_started(cell: Cell) -> None:
            listener.cell_started(cell)
            observers.notify("cell_started", cell.to_json())

        def record_stored(record: Record) -> None:
            listener.record_stored(record)
            observers.notify("record_stored", json.loads(record.to_line()))

        manifest = store.read_manifest(run)
        listener.run_started(manifest)
        observers.notify("run_started", manifest)
        try:
            summary = executor.execute(run, plan, cell_started, record_stored, limits or CellLimits())
        except StorageError as error:
            raise StorageError(f"{error}; make room, then go on with: {resume_command(run)}") from error
        observers.notify("run_ended", dict(summary.statuses))
        summary.lasted(time.monotonic() - began)
        _conclude(run, summary, observers.problems)
    forkserver.end_idle()
    for problem in observers.problems:
        listener.observer_failed(problem)
    return summary


def _conclude(run: Path, summary: RunSummary, problems: Sequence[str]) -> None:
    """Add to the manifest what a run came to."""
    manifest = store.read_manifest(run)
    manifest["observers"] = {"problems": list(problems)}
    manifest["ended_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    manifest["summary"] = {**vars(summary), "statuses": store.statuses(run)}
    store.write_manifest(run, manifest)


def resume_command(run: Path) -> str:
    """Give the command that goes on with a run."""
    return f"attnbench run --resume {shlex.quote(str(run))}"


def manifest_of(name: str, request: Request, catalog: Catalog, plan: Plan) -> dict[str, Any]:
    """Describe a run: its plan, environment, versions and git state."""
    return {
        "schema": SCHEMA,
        "run_id": name,
        "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "machine": machine_facts(),
        "environments": dict(plan.environments),
        "plugin_arguments": [
            str(Path(plugin).resolve()) if Path(plugin).is_file() else plugin for plugin in request.plugins
        ],
        "devices": [device.name for device in plan.devices],
        "every_device": request.every_device,
        "frontier": sorted({cell.workload.id for cell in plan.frontier}),
        "protocols": {kind: protocol.to_json() for kind, protocol in plan.protocols.items()},
        "plugins": [
            {
                "name": plugin.source.name,
                "origin": plugin.source.origin,
                "source": plugin.source.to_json(),
                "reason": plugin.reason,
                "variants": {variant.name: variant.sha256 for variant in plugin.variants},
            }
            for plugin in catalog.plugins
        ],
        "variants": {
            variant.name: {
                "tier": variant.tier,
                "layout": variant.layout,
                "baseline": variant.baseline,
                "claims": list(variant.traits),
            }
            for variant in dict.fromkeys(cell.variant for cell in (*plan.cells, *plan.frontier))
        },
        "plan": [
            {
                "cell_id": cell.cell_id,
                "variant": cell.variant.name,
                "workload": cell.workload.to_json(),
                "device": cell.device.name,
            }
            for cell in plan.cells
        ],
    }
