"""The `gpus` study, which splits one problem by batch or by heads across several devices that work in parallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.study.figure import Panel, lines
from attnbench.study.study import Rows, Settings, Study, listed, number
from attnbench.study.timing import Grids, run_suite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attnbench.plan.devices import Device

SIZES = {
    "cpu": {"batch": 4, "heads": 8, "head_dim": 64, "seq": 512, "dtype": "float32"},
    "cuda": {"batch": 16, "heads": 16, "head_dim": 128, "seq": 4096, "dtype": "bfloat16"},
}
SPLITS = ("batch", "heads")  # neither split needs communication between devices
MASK = "causal"


def counts(devices: int, sizes: Mapping[str, Any]) -> list[int]:
    """Return the powers of two, up to the number of devices, that divide the batch size and the number of heads."""
    powers = [1 << power for power in range(devices.bit_length()) if 1 << power <= devices]
    return [count for count in powers if all(sizes[split] % count == 0 for split in SPLITS)]


def grids(sizes: Mapping[str, Any], numbers: Sequence[int] = (1,)) -> Grids:
    """Return a grid that runs one problem on each number of devices with each split."""
    return [{**sizes, "mask": MASK, "gpus": list(numbers), "split": list(SPLITS)}]


def collect(settings: Settings, folder: Path) -> Rows:
    """Time the problem on each number of devices, and return the rows with their scaling efficiency.

    The latency of a split problem is the latency of the slowest device.
    """
    devices = alike(settings.device)
    sizes = {**SIZES[devices[0].kind], **settings.sizes}
    numbers = counts(len(devices), sizes)
    names = [device.name for device in devices[: max(numbers)]]
    return with_efficiency(by_split(run_suite("gpus", grids(sizes, numbers), settings, folder, names), sizes))


def alike(name: str | None) -> list[Device]:
    """Return the devices that can share the work: all GPUs or all CPU cores.

    `name` is the name of any device of the required kind. If it is None, the kind of the default device is used.
    """
    from attnbench.plan.devices import choose_devices, list_devices

    kind = choose_devices([name] if name else [])[0].kind
    return [device for device in list_devices() if device.kind == kind and device.name != "cpu"]


def by_split(timed: Rows, sizes: Mapping[str, Any]) -> Rows:
    """Return the rows with the additional fields `split`, `devices` and `whole`.

    `whole` is the size of the axis that is split. Rows from a single device are repeated for each split.
    """
    return [
        {**row, "split": split, "devices": row["gpus"], "whole": sizes[split]}
        for split in SPLITS
        for row in timed
        if row["gpus"] == 1 or row["split"] == split
    ]


def with_efficiency(rows: Rows) -> Rows:
    """Return the rows with the additional field `efficiency`.

    The efficiency is the speed-up over a single device, divided by the number of devices. It is 1 for a perfect split.
    Rows are left out if their variant was not timed on a single device.
    """
    alone = {(row["variant"], row["split"]): row["latency_ms"] for row in rows if row["devices"] == 1}
    return [
        {**row, "efficiency": alone[row["variant"], row["split"]] / (row["devices"] * row["latency_ms"])}
        for row in rows
        if (row["variant"], row["split"]) in alone
    ]


def draw(rows: Rows) -> Figure:
    """Draw latency and scaling efficiency against the number of devices, with a line for each variant and split."""
    rows = [{**row, "label": f"{row['variant']}, by {row['split']}"} for row in rows]
    latency = Panel("devices", "devices at once", "latency_ms", "latency of the slowest (ms)", "label")
    efficiency = Panel("devices", "devices at once", "efficiency", "scaling efficiency", "label", log_y=False)
    return lines([(latency, rows), (efficiency, rows)])


def conclude(rows: Rows) -> str:
    """Return a paragraph on the speed-up that each split gives with the largest number of devices."""
    most = max(row["devices"] for row in rows)
    device = rows[0]["device_name"]
    if most == 1:
        return f"This machine has only one device of this kind ({device}), so nothing was split."
    parts = [
        _speedups(split, [row for row in rows if row["split"] == split and row["devices"] == most]) for split in SPLITS
    ]
    return (
        f"{most} devices ({device}) ran at the same time, each on its share and without communication. The latency of "
        "the slowest device is compared with that of one device on the whole problem: "
        f"{'; '.join(part for part in parts if part)}."
    )


def _speedups(split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    parts = [
        f"{row['variant']} is {number(row['efficiency'] * row['devices'])} times as fast "
        f"({100 * row['efficiency']:.0f}% scaling efficiency)"
        for row in rows
    ]
    size = rows[0]["whole"]
    condition = f"when the batch of {size} is split" if split == "batch" else f"when the {size} heads are split"
    return f"{condition}, {listed(parts)}"


STUDY = Study("gpus", "How much faster are several devices on one problem?", collect, draw, conclude)
