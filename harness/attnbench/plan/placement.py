"""The choice of the devices that a workload runs on: a single device, or a team of devices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attnbench.device_names import DEVICE_TYPES
from attnbench.plan.devices import Device, list_devices

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.workloads.workload import Workload

RING = "ring"  # the split in which each call uses all devices


def with_teams(devices: Sequence[Device], workloads: Iterable[Workload]) -> list[Device]:
    """Return the devices, followed by the teams that the workloads need.

    A workload whose `gpus` is above 1 needs a team of that many devices. If the whole CPU is among the devices, CPU
    teams consist of single cores. If there are too few devices for a workload, the largest possible team is added, so
    that the run has a record that says why the workload is unsupported.
    """
    counts = sorted({workload.gpus for workload in workloads} - {1})
    here = {device.name: device for device in list_devices()} if counts else {}
    slots = [device for device in here.values() if device.kind == "cpu" and device.name != "cpu"]
    teams: dict[str, Device] = {}
    for kind in DEVICE_TYPES:
        chosen = [device for device in devices if device.kind == kind and here.get(device.name) == device]
        available = slots if any(device.name == "cpu" for device in chosen) else chosen
        for count in counts:
            if min(count, len(available)) > 1:
                team = Device.team(available[:count])
                teams[team.name] = team
    return [*devices, *(team for name, team in teams.items() if all(name != device.name for device in devices))]


def devices_for(workload: Workload, devices: Sequence[Device]) -> list[Device]:
    """Return the devices on which a workload is measured.

    A workload that needs one device is measured on all single devices. A workload that needs several devices is
    measured on the best-fitting team of each kind of device.
    """
    if workload.gpus == 1:
        return [device for device in devices if not device.members] or list(devices)
    found = []
    for kind in dict.fromkeys(device.kind for device in devices):
        candidates = [device for device in devices if device.kind == kind]
        found.append(max(candidates, key=lambda device: device.size if device.size <= workload.gpus else 0))
    return found


def placement_problem(device: Device, variant: VariantEntry, workload: Workload) -> str | None:
    """Return why a variant can't run a workload on a device or team, or None if the variant can run it."""
    w = workload
    if w.gpus == device.size == 1:
        return None
    if w.gpus != device.size:
        return f"needs {w.gpus} device{'s' if w.gpus > 1 else ''}, got {device.size}: choose them with --device"
    if w.split == RING and variant.ranks != w.gpus:
        return f"split {RING} needs a variant in which each call works on {w.gpus} devices"
    if w.split == RING and "MIG-" in device.uuid:
        return f"split {RING} needs whole GPUs, because a process can use only one MIG instance"
    if w.split != RING and variant.ranks > 1:
        return f"each call of the variant works on {variant.ranks} devices: it needs split {RING}"
    return None
