"""What a machine of a fleet is asked to do: JSON in, JSON out, and the same supervisor between as everywhere.

An order names things (plugins, variants, a workload); nothing that runs travels with it but the files of plugins that
the command line named by path, so that a machine without them can load them.
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
from attnbench.runner.limits import Terms
from attnbench.runner.scheduler import Sweep
from attnbench.store import create_run, read_run
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry

WAIT_S = 3600.0  # for a device that another run holds


def parcel(plugins: Sequence[str]) -> list[dict[str, Any]]:
    """Pack the plugins of a command line: a module by its name, a file with what it imports from beside it."""
    packed: list[dict[str, Any]] = []
    for plugin in plugins:
        path = Path(plugin).expanduser()
        if path.is_file():
            files = {file.name: file.read_text(encoding="utf-8") for file in sorted(with_siblings(path.resolve()))}
            packed.append({"file": path.name, "files": files})
        else:
            packed.append({"module": plugin})
    return packed


def describe(order: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a machine is: its devices, their environments, and the variants that it has.

    `order`: `plugins`, a parcel. The answer: `host`, `devices` (as JSON), `environments` by kind of device, `variants`
    (the hash of each one's plugin, by name).
    """
    with _unpacked(order["plugins"]) as arguments:
        catalog = read_catalog(arguments)
    devices = [device for device in list_devices() if device.name != "cpu"]  # of the CPU a fleet gives cores away
    environments = {device.kind: environment_of(device, catalog.packages) for device in devices}
    return {
        "host": platform.node(),
        "devices": [dataclasses.asdict(device) for device in devices],
        "environments": environments,
        "variants": {name: variant.sha256 for name, variant in catalog.variants.items()},
    }


def perform(order: Mapping[str, Any]) -> dict[str, Any]:
    """Measure all variants of one workload on a free device of this machine.

    `order`: `run`, `plugins` (a parcel), `variants` (the hash of each one's plugin, by name), `baselines` (those
    of them that are baselines), `workload`, `device` (its
    name in the plan), `kind`, `protocol`, `terms`, `limits` (dtypes whose limits are wanted too). The answer:
    `host`, `device`, `environment`, `records` (JSON), `logs` (texts by path), `limits`, `doctor`, `useful_s`, and
    instead of all this `refused` where the machine can't.
    """
    try:
        with _unpacked(order["plugins"]) as arguments, _free_device(order["kind"]) as device:
            return _measured(order, read_catalog(arguments), device)
    except AttnbenchError as error:
        return {"refused": str(error), "host": platform.node()}


def _measured(order: Mapping[str, Any], catalog: Catalog, device: Device) -> dict[str, Any]:
    variants = _variants(catalog, order["variants"], order["baselines"])
    environment = environment_of(device, catalog.packages)
    answer: dict[str, Any] = {"host": platform.node(), "device": device.name, "limits": {}, "doctor": []}
    if order["limits"]:
        found = measured_peaks(device, order["limits"], environment["environment_id"])
        environment["torch_facts"], answer["limits"] = found["facts"], found["limits"]
        answer["doctor"] = [finding.to_json() for finding in examine()]
    plan = _plan(order, variants, device, environment)
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        run = create_run(Path(folder), order["run"], {})
        summary = Sweep(run, plan, _ignore, _ignore, Terms(**order["terms"])).execute()
        told = {"host": platform.node(), "device": device.name}
        records = [
            dataclasses.replace(record, device=order["device"], telemetry={**record.telemetry, **told})
            for record in read_run(run).records
        ]
        logs = {record.log: (run / record.log).read_text(errors="replace") for record in records if record.log}
    return {
        **answer,
        "environment": environment,
        "records": [json.loads(record.to_line()) for record in records],
        "logs": logs,
        "useful_s": summary.useful_share * summary.wall_s,
    }


def _plan(
    order: Mapping[str, Any], variants: Sequence[VariantEntry], device: Device, environment: Mapping[str, Any]
) -> Plan:
    workload = Workload.from_json(order["workload"])
    protocols = {device.kind: MeasureConfig.from_json(order["protocol"])}
    return make_plan(variants, [workload], [device], protocols, {device.name: environment})


def _variants(catalog: Catalog, wanted: Mapping[str, str], baselines: Sequence[str]) -> list[VariantEntry]:
    """Give the entries of the wanted variants; raises UsageError where this machine has not the same source."""
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
    """Hold a device: the GPU that the fleet's scheduler lets this process see, or any core that is free."""
    candidates = [device for device in list_devices() if device.kind == kind and device.name != "cpu"]
    if not candidates:
        raise UsageError(f"machine {platform.node()} has no device of kind {kind!r} that this task may use")
    with locks.hold_one(candidates, WAIT_S) as device:
        yield device


@contextmanager
def _unpacked(packed: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Give a parcel's plugins as arguments of a command line, their files in a folder of their own each."""
    with tempfile.TemporaryDirectory(prefix="attnbench-plugins-") as folder:
        arguments = []
        for index, plugin in enumerate(packed):
            if "module" in plugin:
                arguments.append(plugin["module"])
                continue
            place = Path(folder) / str(index)
            place.mkdir()
            for name, text in plugin["files"].items():
                (place / Path(name).name).write_text(text, encoding="utf-8")
            arguments.append(str(place / Path(plugin["file"]).name))
        yield arguments


def _ignore(_: object) -> None:
    """Tell nobody: the one who gave the order hears of it at the end."""
