"""Which devices a workload runs on: one, or several at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attnbench.plan.devices import Device, list_devices

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.workloads.workload import Workload

SPANNING = "ring"  # the split in which one call works on all devices


def with_teams(devices: Sequence[Device], workloads: Iterable[Workload]) -> list[Device]:
    """Add to devices of this machine the teams that workloads on several of them need, as far as there are enough.

    The whole CPU makes teams of its cores. Where there are too few, the largest team there can be stands in, so that a
    cell has a place to say so at.
    """
    counts = sorted({workload.gpus for workload in workloads} - {1})
    here = {device.name: device for device in list_devices()} if counts else {}
    slots = [device for device in here.values() if device.name.startswith("cpu:")]
    teams: dict[str, Device] = {}
    for kind in ("cpu", "cuda"):
        chosen = [device for device in devices if device.kind == kind and here.get(device.name) == device]
        pool = slots if any(device.name == "cpu" for device in chosen) else chosen
        for count in counts:
            if min(count, len(pool)) > 1:
                team = Device.team(pool[:count])
                teams[team.name] = team
    return [*devices, *(team for name, team in teams.items() if all(name != device.name for device in devices))]


def devices_for(workload: Workload, devices: Sequence[Device]) -> list[Device]:
    """Give the devices on which a workload is a cell: each one by itself, or of each kind the team that fits best."""
    if workload.gpus == 1:
        return [device for device in devices if not device.members] or list(devices)
    found = []
    for kind in dict.fromkeys(device.kind for device in devices):
        own = [device for device in devices if device.kind == kind]
        found.append(max(own, key=lambda one: one.size if one.size <= workload.gpus else 0))
    return found


def placement_problem(device: Device, variant: VariantEntry, workload: Workload) -> str | None:
    """Say why a variant can't do its workload on as many devices as these, or None."""
    w = workload
    if w.gpus == device.size == 1:
        return None
    if w.gpus != device.size:
        return f"needs {w.gpus} device{'s at once' if w.gpus > 1 else ''}, and has {device.size}: choose with --device"
    if w.split == SPANNING and variant.ranks != w.gpus:
        return f"split {SPANNING} is for variants that work on {w.gpus} devices by themselves, as a ring does"
    if w.split != SPANNING and variant.ranks > 1:
        return f"works on {variant.ranks} devices by itself: its split is {SPANNING}"
    return None
