"""The functions that run on a node of a cluster, and the messages that they take and return.

A GroupOrder names plugins, variants and a workload. It contains a plugin's source files only if the plugin's path is
given on the command line. All other plugins must be installed on the node. A node measures cells in worker processes,
as in a local run.
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
from attnbench.machine.gpu_support import gpu_problem
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

LOCK_TIMEOUT_S = 3600.0  # if all devices are in use by other runs, a task waits up to this long for one


class UnfitNodeError(UsageError):
    """Raised when this node can measure no group of a run. Another node may be able to."""


class NodeRequest(msgspec.Struct, frozen=True):
    """The argument of `describe_node`. `plugins` is the result of `pack_plugins`."""

    plugins: list[dict[str, Any]]


class NodeDescription(msgspec.Struct, frozen=True):
    """The description of a node.

    - `host`, `devices`: the node's name and its devices
    - `environments`: the environment for each kind of device
    - `variants`: the hash of each variant's plugin, by the variant's name
    """

    host: str
    devices: list[Device]
    environments: dict[str, dict[str, Any]]
    variants: dict[str, str]


class GroupOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `measure_group`.

    - `run`: the run's name
    - `plugins`: the result of `pack_plugins`
    - `variants`: the hash of each variant's plugin, by the variant's name
    - `baselines`: the names of the variants that are baselines
    - `workload`, `protocol`, `cell_limits`: a Workload, a MeasureConfig and CellLimits, as JSON values
    - `device`, `kind`: the type of device as named in the plan, e.g. `cuda:H100`, and its kind, `cuda` or `cpu`
    - `peak_dtypes`: the dtypes for which the node also measures the device's peak rates; may be empty
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
    """The result of `measure_group`.

    - `host`: the node's name
    - `node`: the name by which the cluster knows the node, which the cluster adds
    - `refused`: the reason why the node can't run the group, or None if it can. If there is a reason, the fields below
      it are empty, except `unfit`.
    - `unfit`: whether the node can run no group of the run
    - `device`: the device's name on the node, e.g. `cuda:3`
    - `records`: the records as JSON values
    - `logs`: the content of each log file, by the file's path
    - `peaks`: the peak rates by dtype
    - `doctor`: the findings of `attnbench doctor` on the node, as JSON values
    - `useful_s`: the time in seconds that was spent on sampling
    """

    host: str
    node: str = ""
    refused: str | None = None
    unfit: bool = False
    device: str = ""
    environment: dict[str, Any] = msgspec.field(default_factory=dict)
    records: list[dict[str, Any]] = msgspec.field(default_factory=list)
    logs: dict[str, str] = msgspec.field(default_factory=dict)
    peaks: dict[str, Any] = msgspec.field(default_factory=dict)
    doctor: list[dict[str, Any]] = msgspec.field(default_factory=list)
    useful_s: float = 0.0


def pack_plugins(plugins: Sequence[str]) -> list[dict[str, Any]]:
    """Pack the plugins given on the command line into JSON values.

    A module is packed as its name. A file is packed with its content and the content of the files that it imports from
    its own folder.

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
    """Describe this node: take a NodeRequest and return a NodeDescription, both as JSON values."""
    request = msgspec.convert(argument, NodeRequest)
    with _unpacked(request.plugins) as plugins:
        catalog = read_catalog(plugins)
    # Leave out the device `cpu`, which stands for the whole CPU, because cluster schedulers assign individual cores.
    devices = [device for device in list_devices() if device.name != "cpu"]
    description = NodeDescription(
        host=platform.node(),
        devices=devices,
        environments={device.kind: environment_of(device, catalog.packages) for device in devices},
        variants={name: variant.sha256 for name, variant in catalog.variants.items()},
    )
    return _to_json(description)


def measure_group(argument: dict[str, Any]) -> dict[str, Any]:
    """Measure all variants of one workload on a free device of this node.

    Takes a GroupOrder and returns a GroupResult, both as JSON values.
    """
    order = msgspec.convert(argument, GroupOrder)
    try:
        with _unpacked(order.plugins) as plugins, _free_device(order.kind) as device:
            return _to_json(_measure(order, read_catalog(plugins), device))
    except AttnbenchError as error:
        unfit = isinstance(error, UnfitNodeError)
        return _to_json(GroupResult(host=platform.node(), refused=str(error), unfit=unfit))


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
    host = platform.node()
    node = {"host": host, "device": device.name}
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        run = create_run(Path(folder), order.run, {})
        summary = Scheduler(run, plan, _ignore, _ignore, CellLimits(**order.cell_limits)).execute()
        records = [
            dataclasses.replace(record, device=order.device, telemetry={**record.telemetry, **node})
            for record in read_run(run).records
        ]
        logs = {record.log: (run / record.log).read_text(errors="replace") for record in records if record.log}
    return GroupResult(
        host=host,
        device=device.name,
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
    """Return the catalog's entries for the wanted variants.

    Raises UnfitNodeError if this node lacks a variant or has a different version of the variant's plugin.
    """
    known = catalog.variants
    for name, sha256 in wanted.items():
        if name not in known or known[name].sha256 != sha256:
            found = "has a different source for" if name in known else "does not have"
            raise UnfitNodeError(
                f"machine {platform.node()} {found} variant {name!r}: install the same plugins on every machine"
            )
    return [dataclasses.replace(known[name], baseline=name in baselines) for name in wanted]


@contextmanager
def _free_device(kind: str) -> Iterator[Device]:
    """Lock a free device of the given kind and yield it.

    The device is a single core, or a GPU that the cluster's scheduler makes visible to this process. Raises
    UnfitNodeError if the node has no device of this kind or can't use it, and UsageError if none becomes free in time.
    """
    problem = gpu_problem() if kind == "cuda" else None
    if problem is not None:
        raise UnfitNodeError(f"machine {platform.node()}: {problem}")
    candidates = [device for device in list_devices() if device.kind == kind and device.name != "cpu"]
    if not candidates:
        raise UnfitNodeError(f"machine {platform.node()} has no device of kind {kind!r} that this task may use")
    with locks.hold_one(candidates, LOCK_TIMEOUT_S) as device:
        yield device


@contextmanager
def _unpacked(packed: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Unpack plugins, and yield the arguments that name them on a command line.

    The files of each plugin are written to a separate temporary folder, which is removed when the context exits.
    """
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
    """Ignore a run event, because the node returns all records at the end."""
