"""Plan the rest of an earlier run, or some of its cells once more."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import store
from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import Catalog, read_catalog
from attnbench.plan.cells import Plan, choose_variants, make_plan
from attnbench.plan.memory_frontier import PREDICTED
from attnbench.record import STATUSES
from attnbench.runner.local_executor import LOCAL_EXECUTOR, Executor
from attnbench.runner.request import Request
from attnbench.runner.run import start
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.plan.devices import Device


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


def start_again(
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
