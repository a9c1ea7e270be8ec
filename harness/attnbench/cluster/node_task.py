"""The functions that run on a node of a cluster, and the messages that they take and return.

An order names plugins, variants and a workload. It contains code only for plugins that the command line names by path:
their files, so that a node can load them. A node measures in the same way as a local run, in worker processes.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.errors import AttnbenchError, UsageError
from attnbench.machine.doctor import examine
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import Catalog, read_catalog
from attnbench.plan.cells import Plan, make_plan
from attnbench.plan.device_peaks import measured_peaks
from attnbench.plan.devices import Device, list_devices
from attnbench.plan.environment import environment_of
from attnbench.plugins.loading import with_siblings
from attnbench.runner import locks
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.scheduler import Scheduler
from attnbench.store import create_run, read_run
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry

LOCK_TIMEOUT_S = 3600.0  # how long to wait while another run uses all devices


class NodeRequest(msgspec.Struct, frozen=True):
    """The argument of `describe_node`; `plugins` as packed by `pack_plugins`."""

    plugins: list[dict[str, Any]]


class NodeDescription(msgspec.Struct, frozen=True):
    """A node: its devices, their environments by kind of device, and its variants with the hash of their plugins."""

    host: str
    devices: list[Device]
    environments: dict[str, dict[str, Any]]
    variants: dict[str, str]


class GroupOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `measure_group`.

    - `plugins`: as packed by `pack_plugins`
    - `variants`: the hash of each variant's plugin, by the variant's name; `baselines`: those that are baselines
    - `workload`, `protocol`, `cell_limits`: a Workload, a MeasureConfig and the limits of a cell, as JSON values
    - `device`: the type of device by its name in the plan, e.g. `cuda:H100`; `kind`: `cuda` or `cpu`
    - `peak_dtypes`: dtypes whose peak rates are to be measured too
    """

    run: str
    plugins: list[dict[str, Any]]
    variants: dict[str, str]
    baselines: list[str]
    workload: dict[str, Any]
    device: str
    kind: str
    protocol: dict[str, Any]
    cell_limits: dict[str, Any]
    peak_dtypes: list[str]


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `measure_group` returns: the reason in `refused` if the node can't run the group, else all the rest.

    - `host`, `device`: the node and its own name of the device, e.g. `cuda:3`
    - `records`: as JSON values; `logs`: texts by the path of the log
    - `peaks`: peak rates by dtype; `doctor`: the node's findings, as JSON values
    - `useful_s`: seconds of measuring
    """

    host: str
    refused: str | None = None
    device: str = ""
    environment: dict[str, Any] = msgspec.field(default_factory=dict)
    records: list[dict[str, Any]] = msgspec.field(default_factory=list)
    logs: dict[str, str] = msgspec.field(default_factory=dict)
    peaks: dict[str, Any] = msgspec.field(default_factory=dict)
    doctor: list[dict[str, Any]] = msgspec.field(default_factory=list)
    useful_s: float = 0.0


def pack_plugins(plugins: Sequence[str]) -> list[dict[str, Any]]:
    """Pack the plugins of a command line: modules by name, files together with the files beside them that they import.

    Example: `["my.module", "a.py"]` gives `[{"module": "my.module"}, {"file": "a.py", "files": {"a.py": "..."}}]`.
    """
    packed: list[dict[str, Any]] = []
    for plugin in plugins:
        path = Path(plugin).expanduser()
        if path.is_file():
            files = {file.name: file.read_text(encoding="utf-8") for file in sorted(with_siblings(path.resolve()))}
            packed.append({"file": path.name, "files": files})
        else:
            packed.append({"module": plugin})
    return packed


def describe_node(argument: dict[str, Any]) -> dict[str, Any]:
    """Return the NodeDescription of this node for a NodeRequest, both as JSON values."""
    request = msgspec.convert(argument, NodeRequest)
    with _unpacked(request.plugins) as plugins:
        catalog = read_catalog(plugins)
    devices = [
        device for device in list_devices() if device.name != "cpu"
    ]  # a cluster assigns single cores, not the whole CPU
    description = NodeDescription(
        host=platform.node(),
        devices=devices,
        environments={device.kind: environment_of(device, catalog.packages) for device in devices},
        variants={name: variant.sha256 for name, variant in catalog.variants.items()},
    )
    return _to_json(description)


def measure_group(argument: dict[str, Any]) -> dict[str, Any]:
    """Measure all variants of one workload on a free device; takes a GroupOrder and returns a GroupResult, as JSON."""
    order = msgspec.convert(argument, GroupOrder)
    try:
        with _unpacked(order.plugins) as plugins, _free_device(order.kind) as device:
            return _to_json(_measure(order, read_catalog(plugins), device))
    except AttnbenchError as error:
        return _to_json(GroupResult(host=platform.node(), refused=str(error)))


def _to_json(message: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    return fields


def _measure(order: GroupOrder, catalog: Catalog, device: Device) -> GroupResult:
    variants = _variants(catalog, order.variants, order.baselines)
    environment = environment_of(device, catalog.packages)
    peaks: dict[str, Any] = {}
    doctor: list[dict[str, Any]] = []
    if order.peak_dtypes:
        measured = measured_peaks(device, order.peak_dtypes, environment["environment_id"])
        environment["torch_facts"], peaks = measured["facts"], measured["limits"]
        doctor = [finding.to_json() for finding in examine()]
    plan = _plan(order, variants, device, environment)
    node = {"host": platform.node(), "device": device.name}
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        run = create_run(Path(folder), order.run, {})
        summary = Scheduler(run, plan, _ignore, _ignore, CellLimits(**order.cell_limits)).execute()
        records = [
            dataclasses.replace(record, device=order.device, telemetry={**record.telemetry, **node})
            for record in read_run(run).records
        ]
        logs = {record.log: (run / record.log).read_text(errors="replace") for record in records if record.log}
    return GroupResult(
        **node,
        environment=environment,
        records=[json.loads(record.to_line()) for record in records],
        logs=logs,
        peaks=peaks,
        doctor=doctor,
        useful_s=summary.useful_share * summary.wall_s,
    )


def _plan(order: GroupOrder, variants: Sequence[VariantEntry], device: Device, environment: Mapping[str, Any]) -> Plan:
    protocols = {device.kind: MeasureConfig.from_json(order.protocol)}
    return make_plan(variants, [Workload.from_json(order.workload)], [device], protocols, {device.name: environment})


def _variants(catalog: Catalog, wanted: Mapping[str, str], baselines: Sequence[str]) -> list[VariantEntry]:
    """Return the entries of the wanted variants; raises UsageError if this node has other sources of their plugins."""
    known = catalog.variants
    for name, sha256 in wanted.items():
        if name not in known or known[name].sha256 != sha256:
            has = "another source for" if name in known else "no"
            raise UsageError(
                f"machine {platform.node()} has {has} variant {name!r}: install the same plugins on every machine"
            )
    return [dataclasses.replace(known[name], baseline=name in baselines) for name in wanted]


@contextmanager
def _free_device(kind: str) -> Iterator[Device]:
    """Lock a device: a GPU that the cluster's scheduler lets this process see, or any free core."""
    candidates = [device for device in list_devices() if device.kind == kind and device.name != "cpu"]
    if not candidates:
        raise UsageError(f"machine {platform.node()} has no device of kind {kind!r} that this task may use")
    with locks.hold_one(candidates, LOCK_TIMEOUT_S) as device:
        yield device


@contextmanager
def _unpacked(packed: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Return packed plugins as arguments of a command line; each plugin's files get a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="attnbench-plugins-") as folder:
        arguments = []
        for index, plugin in enumerate(packed):
            if "module" in plugin:
                arguments.append(plugin["module"])
                continue
            target = Path(folder) / str(index)
            target.mkdir()
            for name, text in plugin["files"].items():
                (target / Path(name).name).write_text(text, encoding="utf-8")
            arguments.append(str(target / Path(plugin["file"]).name))
        yield arguments


def _ignore(_: object) -> None:
    """Ignore a run event: the order's sender gets all records at the end."""
