"""Which cells a run has: variants x workloads x devices."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError, unknown
from attnbench.plan.environment import short_hash
from attnbench.plan.placement import devices_for
from attnbench.workloads.suite import expand
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.catalog import Catalog, VariantEntry
    from attnbench.plan.devices import Device


@dataclass(frozen=True)
class Cell:
    """One variant on one workload on one device."""

    variant: VariantEntry
    workload: Workload
    device: Device
    cell_id: str

    def to_json(self) -> dict[str, Any]:
        """Give what a manifest and an observer are told of the cell."""
        return {
            "cell_id": self.cell_id,
            "variant": self.variant.name,
            "workload": self.workload.to_json(),
            "device": self.device.name,
        }


@dataclass(frozen=True)
class Plan:
    """The cells of a run, grouped by workload so that variants of one workload are measured side by side.

    A cell names the first device of its model; `shared` are devices that may take cells of another one of their model.
    `frontier` are the cells from which the largest length that fits in memory is searched.
    """

    cells: tuple[Cell, ...]
    protocols: Mapping[str, MeasureConfig]  # by kind of device
    environments: Mapping[str, Mapping[str, Any]]  # by device name
    shared: tuple[Device, ...] = ()
    frontier: tuple[Cell, ...] = ()

    def workload_groups(self, device: Device) -> list[list[Cell]]:
        """Give the cells of a device, workload by workload."""
        found: dict[Workload, list[Cell]] = {}
        for cell in self.cells:
            if cell.device == device:
                found.setdefault(cell.workload, []).append(cell)
        return list(found.values())

    @property
    def device_groups(self) -> list[list[Device]]:
        """The devices of the plan, those that share their cells together; the cells of each name its first."""
        firsts = dict.fromkeys(cell.device for cell in (*self.cells, *self.frontier))
        return [
            [first, *(other for other in self.shared if other not in firsts and interchangeable(other, first))]
            for first in firsts
        ]

    @property
    def devices(self) -> list[Device]:
        """The devices of the plan, in order."""
        return [device for pool in self.device_groups for device in pool]

    def cell_at(self, cell: Cell, workload: Workload) -> Cell:
        """Give the cell of the same variant and device on another workload."""
        protocol, environment = self.protocols[cell.device.kind], self.environments[cell.device.name]
        return Cell(cell.variant, workload, cell.device, cell_id(cell.variant, workload, protocol, environment))


def interchangeable(device: Device, other: Device) -> bool:
    """Whether two devices give the same number: of one model, under one driver."""
    return (device.kind, device.model, device.driver) == (other.kind, other.model, other.driver)


def choose_variants(catalog: Catalog, patterns: Iterable[str]) -> list[VariantEntry]:
    """Pick variants by name or glob; nothing means all. Raises UsageError for a pattern that matches none."""
    known = catalog.variants
    chosen: dict[str, VariantEntry] = {}
    for pattern in patterns:
        matches = fnmatch.filter(known, pattern)
        if not matches:
            raise UsageError(f"{unknown('variant', pattern, known)}{_not_loaded(catalog)}{_file_here(pattern)}")
        chosen.update((name, known[name]) for name in matches)
    return list(chosen.values()) if chosen else list(known.values())


def _not_loaded(catalog: Catalog) -> str:
    names = ", ".join(plugin.source.name for plugin in catalog.plugins if plugin.reason)
    return f" (plugins that did not load: {names}; `attnbench list plugins` says why)" if names else ""


def _file_here(name: str) -> str:
    """Point to a plugin's file of that name, as `attnbench new` writes it: what lies here is not loaded unasked."""
    path = Path(name.replace("-", "_")).with_suffix(".py")
    return f"; {path} is here: load it with --plugin {path}" if path.is_file() else ""


def default_variants(catalog: Catalog, devices: Sequence[Device]) -> list[VariantEntry]:
    """Pick the variants that a run takes which names none: those that say so of one of the kinds of device."""
    kinds = {device.kind for device in devices}
    return [variant for variant in catalog.variants.values() if kinds & set(variant.default_on)]


def choose_workloads(
    catalog: Catalog, suites: Sequence[str], axes: Mapping[str, list[Any]], named: Sequence[str] = ()
) -> list[Workload]:
    """Take the workloads of the suites, each axis given on the command line replacing the suites' values.

    Without a suite, the axes alone make the workloads, on top of GPT-2-like heads. `named` are workloads by their ids,
    which no axis changes. Raises UsageError.
    """
    given = dict(axes)
    if named and given:
        axis = next(iter(given)).replace("_", "-")
        raise UsageError(f"--workload names whole workloads, which --{axis} would change: give one or the other")
    workloads: dict[Workload, None] = dict.fromkeys(Workload.parse(text) for text in named)
    for suite in catalog.suites(suites):
        for workload in suite.workloads:
            changed = expand({**_kept(workload, given), **given}, "command line") if given else [workload]
            workloads.update(dict.fromkeys(changed))
    if not suites and not named:
        workloads.update(dict.fromkeys(expand({**DEFAULT_AXES, **given}, "command line")))
    return list(workloads)


DEFAULT_AXES: Mapping[str, Any] = {"heads": 12, "seq": 1024, "head_dim": 64}


def make_plan(
    variants: Sequence[VariantEntry],
    workloads: Sequence[Workload],
    devices: Sequence[Device],
    protocols: Mapping[str, MeasureConfig],
    environments: Mapping[str, Mapping[str, Any]],
    *,
    every_device: bool = False,
    frontier: Collection[Workload] = (),
) -> Plan:
    """Combine all into cells, each with the id by which a later run knows it again.

    Devices of one model share the cells, so that each is measured once; with `every_device` each measures all.
    `frontier` are workloads from which the largest that fits is searched.
    """
    firsts = [
        device for at, device in enumerate(devices) if not any(interchangeable(device, other) for other in devices[:at])
    ]
    cells = [
        Cell(variant, workload, device, cell_id(variant, workload, protocols[device.kind], environments[device.name]))
        for device in (devices if every_device else firsts)
        for workload in workloads
        if device in devices_for(workload, devices)
        for variant in variants
    ]
    searched = tuple(cell for cell in cells if cell.workload in frontier)
    return Plan(tuple(cells), dict(protocols), dict(environments), () if every_device else tuple(devices), searched)


def cell_id(variant: VariantEntry, workload: Workload, protocol: MeasureConfig, environment: Mapping[str, Any]) -> str:
    """Hash what would change the number; another GPU of the same model gives the same id.

    `environment` is that of the machine that measures: its versions of the variant's packages count.
    """
    return short_hash(
        {
            "variant": variant.name,
            "plugin_sha256": variant.sha256,
            "workload": workload.to_json(),
            "protocol": protocol.protocol_id,
            "device_name": environment["device_name"],
            "driver": environment["driver"],
            "packages": {name: environment["packages"].get(name) for name in identity_packages(variant)},
        }
    )


def identity_packages(variant: VariantEntry) -> tuple[str, ...]:
    """Return the distributions whose versions are part of a cell's identity: torch, and what the variant declares."""
    return ("torch", *variant.packages)


def _kept(workload: Workload, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of a suite's workload that the command line leaves, without those that follow a given one.

    Other heads bring their own kv_heads, another head_dim its head_dim_v, where the suite has both alike.
    """
    dropped = {"seq_q", "seq_k"} if "seq" in given else set()
    if workload.kv_heads == workload.heads and "heads" in given:
        dropped.add("kv_heads")
    if workload.head_dim_v == workload.head_dim and "head_dim" in given:
        dropped.add("head_dim_v")
    return {name: value for name, value in workload.to_json().items() if name not in dropped}
