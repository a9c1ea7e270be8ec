"""The cells of a run: combinations of variants, workloads and devices."""

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
    """The combination of a variant, a workload and a device, which is measured as one unit."""

    variant: VariantEntry
    workload: Workload
    device: Device
    cell_id: str

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON values, as stored in manifests and passed to observers."""
        return {
            "cell_id": self.cell_id,
            "variant": self.variant.name,
            "workload": self.workload.to_json(),
            "device": self.device.name,
        }


@dataclass(frozen=True)
class Plan:
    """The cells of a run.

    `shared` lists the devices that share cells with other devices of the same model. The `device` of a shared cell is
    the first device of its model. The search for the largest length that fits in memory starts from the cells in
    `frontier`.
    """

    cells: tuple[Cell, ...]
    protocols: Mapping[str, MeasureConfig]  # key: device kind
    environments: Mapping[str, Mapping[str, Any]]  # key: device name
    shared: tuple[Device, ...] = ()
    frontier: tuple[Cell, ...] = ()

    def workload_groups(self, device: Device) -> list[list[Cell]]:
        """Return the cells of a device, grouped by workload. The cells of a group are measured together."""
        found: dict[Workload, list[Cell]] = {}
        for cell in self.cells:
            if cell.device == device:
                found.setdefault(cell.workload, []).append(cell)
        return list(found.values())

    @property
    def device_groups(self) -> list[list[Device]]:
        """The plan's devices in groups that share cells. The `device` of a cell is the first device of a group."""
        firsts = dict.fromkeys(cell.device for cell in (*self.cells, *self.frontier))
        return [
            [first, *(other for other in self.shared if other not in firsts and interchangeable(other, first))]
            for first in firsts
        ]

    @property
    def devices(self) -> list[Device]:
        """The devices of the plan, in the order of their groups."""
        return [device for group in self.device_groups for device in group]

    def cell_at(self, cell: Cell, workload: Workload) -> Cell:
        """Return a cell with the variant and the device of `cell` but a different workload."""
        protocol, environment = self.protocols[cell.device.kind], self.environments[cell.device.name]
        return Cell(cell.variant, workload, cell.device, cell_id(cell.variant, workload, protocol, environment))


def interchangeable(device: Device, other: Device) -> bool:
    """Return whether two devices have the same model and driver, so that a cell can be measured on either of them."""
    return (device.kind, device.model, device.driver) == (other.kind, other.model, other.driver)


def choose_variants(catalog: Catalog, patterns: Iterable[str]) -> list[VariantEntry]:
    """Return the variants that match the patterns (names or globs), or all variants if there are no patterns.

    Raises UsageError if a pattern matches no variant.
    """
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
    """Return a hint to use --plugin if the current folder has a .py file of this name, otherwise an empty string."""
    path = Path(name.replace("-", "_")).with_suffix(".py")
    return f"; the current folder has {path}: load it with --plugin {path}" if path.is_file() else ""


def default_variants(catalog: Catalog, devices: Sequence[Device]) -> list[VariantEntry]:
    """Return the variants to run if the user names none: those whose `default_on` lists the kind of a chosen device."""
    kinds = {device.kind for device in devices}
    return [variant for variant in catalog.variants.values() if kinds & set(variant.default_on)]


def choose_workloads(
    catalog: Catalog, suites: Sequence[str], axes: Mapping[str, list[Any]], named: Sequence[str] = ()
) -> list[Workload]:
    """Return the workloads that the user chose with suites, axes or ids.

    If suites are given, the values in `axes` replace those in the suites. `named` contains the ids of further
    workloads. If there are neither suites nor ids, the workloads are all combinations of the axes, and DEFAULT_AXES
    fills in missing axes. Raises UsageError if a suite, an axis or an id is unknown, or if both ids and axes are given.
    """
    given = dict(axes)
    if named and given:
        axis = next(iter(given)).replace("_", "-")
        raise UsageError(f"--workload gives complete workloads, which --{axis} would change: use only one of the two")
    workloads: dict[Workload, None] = dict.fromkeys(Workload.parse(text) for text in named)
    for suite in catalog.suites(suites):
        for workload in suite.workloads:
            changed = expand({**_kept(workload, given), **given}, "command line") if given else [workload]
            workloads.update(dict.fromkeys(changed))
    if not suites and not named:
        workloads.update(dict.fromkeys(expand({**DEFAULT_AXES, **given}, "command line")))
    return list(workloads)


DEFAULT_AXES: Mapping[str, Any] = {"heads": 12, "seq": 1024, "head_dim": 64}  # the shape of GPT-2 (124M)


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
    """Combine variants, workloads and devices into a plan of cells.

    Devices of the same model share their cells, so that each cell is measured only once. If `every_device` is true,
    every device measures every cell instead. The search for the largest length that fits in memory starts from the
    workloads in `frontier`.
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
    """Return the id of a cell: a hash of everything that could change its measured time.

    The id is the same on all devices of the same model. `environment` describes the machine that measures the cell and
    includes the versions of the packages that the variant uses.
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
    """Return the distributions whose versions are part of a cell's id: torch and those that the variant declares."""
    return ("torch", *variant.packages)


def _kept(workload: Workload, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a suite's workload, without those that follow from axes given on the command line.

    `seq_q` and `seq_k` follow from `seq`. If `kv_heads` equals `heads` in the suite, it follows from `heads`, and if
    `head_dim_v` equals `head_dim`, it follows from `head_dim`.
    """
    dropped = {"seq_q", "seq_k"} if "seq" in given else set()
    if workload.kv_heads == workload.heads and "heads" in given:
        dropped.add("kv_heads")
    if workload.head_dim_v == workload.head_dim and "head_dim" in given:
        dropped.add("head_dim_v")
    return {name: value for name, value in workload.to_json().items() if name not in dropped}
