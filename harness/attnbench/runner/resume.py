"""Plan the missing cells of an earlier run, or create a new run that measures some of its cells again."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench import store
from attnbench.device_names import device_type
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


class _PlannedCell(msgspec.Struct):
    variant: str
    workload: dict[str, Any]
    device: str


class _ResumableManifest(msgspec.Struct):
    """The entries of a manifest from which a run's cells are planned again."""

    plan: list[_PlannedCell]
    protocols: dict[str, dict[str, Any]]
    environments: dict[str, dict[str, Any]]
    devices: list[str] = []
    frontier: list[str] = []


def resumed(
    run: Path, *, retry_failed: bool = False, exhaustive: bool = False, executor: Executor = LOCAL_EXECUTOR
) -> tuple[Catalog, Plan]:
    """Return the catalog, and a plan for those cells of a run that are missing, interrupted or stale.

    A cell is stale if its id has changed, for example because its plugin, the measure config, the driver or torch has
    changed. If `retry_failed` is True, the plan also includes failed cells. If `exhaustive` is True, it also includes
    cells that were not tried because they were predicted to run out of memory. Raises UsageError if a variant of the
    run is no longer available, or if a device is no longer available and has no replacement.
    """
    manifest = _read_manifest(run)
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
    """Create a new run that measures some cells of an earlier run again, with the earlier run's measure config.

    Each cell is given as (variant, workload, device). `plugins` are loaded in addition to those of the earlier run.
    Returns the new run's folder, catalog and plan.
    """
    manifest = _read_manifest(run)
    arguments = [*store.plugin_arguments(manifest), *plugins]
    catalog = _catalog_of(manifest, arguments)
    plan = _plan_of_cells(catalog, cells, manifest, LOCAL_EXECUTOR)
    request = Request(plugins=arguments, results=results, name=f"{run.name}-again-{secrets.token_hex(2)}")
    return start(request, catalog, plan), catalog, plan


def _read_manifest(run: Path) -> dict[str, Any]:
    """Return a run's manifest. Raises UsageError if the run's cells can't be planned from it."""
    manifest = store.read_manifest(run)
    try:
        entries = msgspec.convert(manifest, _ResumableManifest)
    except msgspec.ValidationError as error:
        raise UsageError(f"run {str(run)!r} can't be resumed: its {store.MANIFEST} does not fit: {error}") from None
    for kind in sorted({device_type(cell.device) for cell in entries.plan} - entries.protocols.keys()):
        raise UsageError(f"run {str(run)!r} can't be resumed: its {store.MANIFEST} has no protocol for {kind}")
    return manifest


def _catalog_of(manifest: Mapping[str, Any], plugins: Sequence[str]) -> Catalog:
    """Return the catalog of `plugins`, with the baseline of the earlier run that `manifest` describes."""
    catalog, baseline = read_catalog(plugins), store.declared_baseline(manifest)
    return catalog if baseline is None else catalog.with_baseline(baseline)


def _plan_of_cells(
    catalog: Catalog, cells: Sequence[tuple[str, Workload, str]], manifest: Mapping[str, Any], executor: Executor
) -> Plan:
    """Return a plan for some of the cells of an earlier run, with that run's settings of the measurement.

    Each cell is given as (variant, workload, device).
    """
    protocols = {kind: MeasureConfig.from_json(fields) for kind, fields in manifest["protocols"].items()}
    named = {device for _, _, device in cells}
    shared = () if store.measures_on_every_device(manifest) else manifest.get("devices", ())
    devices = _find_devices(sorted({*named, *shared}), named, manifest, executor)
    environments = {device.name: executor.environment_of(device, catalog.packages) for device in devices.values()}
    plans = (
        make_plan(choose_variants(catalog, [variant]), [workload], [devices[device]], protocols, environments)
        for variant, workload, device in cells
    )
    sharing = tuple(dict.fromkeys(devices[name] for name in shared if name in devices))
    return Plan(tuple(cell for plan in plans for cell in plan.cells), protocols, environments, sharing)


def _find_devices(
    names: Sequence[str], needed: Collection[str], manifest: Mapping[str, Any], executor: Executor
) -> dict[str, Device]:
    """Return the devices of an earlier run, keyed by their names in that run.

    If a device is no longer available, another device of the same model replaces it, unless the earlier run measured
    every cell on every device. Raises UsageError if a device in `needed` has no replacement.
    """
    found: dict[str, Device] = {}
    missing: dict[str, UsageError] = {}
    for name in names:
        try:
            found[name] = executor.devices([name])[0]
        except UsageError as error:
            missing[name] = error
    for name, not_found in missing.items():
        model = manifest["environments"].get(name, {}).get("device_name")
        alike = [device for device in found.values() if device.model == model]
        replacement = alike[0] if alike and not store.measures_on_every_device(manifest) else None
        if replacement is not None:
            found[name] = replacement
        elif name in needed:
            raise not_found
    return found
