"""One problem over several devices at work at once, split by batch or by heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.study.figure import Panel, lines
from attnbench.study.study import Rows, Settings, Study
from attnbench.study.timing import Grids, run_suite
from attnbench.study.wording import listed, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attnbench.plan.devices import Device

SIZES = {
    "cpu": {"batch": 4, "heads": 8, "head_dim": 64, "seq": 512, "dtype": "float32"},
    "cuda": {"batch": 16, "heads": 16, "head_dim": 128, "seq": 4096, "dtype": "bfloat16"},
}
SPLITS = ("batch", "heads")  # data parallel and head parallel: attention itself needs no word between devices
MASK = "causal"


def counts(devices: int, sizes: Mapping[str, Any]) -> list[int]:
    """Give 1, 2, 4 ... devices, as far as there are some and both batch and heads divide by them."""
    powers = [1 << power for power in range(devices.bit_length()) if 1 << power <= devices]
    return [count for count in powers if all(sizes[split] % count == 0 for split in SPLITS)]


def grids(sizes: Mapping[str, Any], numbers: Sequence[int] = (1,)) -> Grids:
    """Share one problem out over so many devices, by each split."""
    return [{**sizes, "mask": MASK, "gpus": list(numbers), "split": list(SPLITS)}]


def collect(settings: Settings, folder: Path) -> Rows:
    """Run each number of devices, all of them at once; a split takes as long as its slowest device."""
    devices = alike(settings.device)
    sizes = {**SIZES[devices[0].kind], **settings.sizes}
    numbers = counts(len(devices), sizes)
    names = [device.name for device in devices[: max(numbers)]]
    return with_efficiency(by_split(run_suite("gpus", grids(sizes, numbers), settings, folder, names), sizes))


def alike(name: str | None) -> list[Device]:
    """List the devices that can share the work: every GPU, or else every core as a slot of its own."""
    from attnbench.plan.devices import choose_devices, list_devices

    kind = choose_devices([name] if name else [])[0].kind
    return [device for device in list_devices() if device.kind == kind and device.name != "cpu"]


def by_split(timed: Rows, sizes: Mapping[str, Any]) -> Rows:
    """Name each row's split and number of devices; one device is where each split begins."""
    return [
        {**row, "split": split, "devices": row["gpus"], "whole": sizes[split]}
        for split in SPLITS
        for row in timed
        if row["gpus"] == 1 or row["split"] == split
    ]


def with_efficiency(rows: Rows) -> Rows:
    """Add `efficiency`: one device's time over that of `devices` times as many; 1 is a perfect split."""
    alone = {(row["variant"], row["split"]): row["latency_ms"] for row in rows if row["devices"] == 1}
    return [
        {**row, "efficiency": alone[row["variant"], row["split"]] / (row["devices"] * row["latency_ms"])}
        for row in rows
        if (row["variant"], row["split"]) in alone
    ]


def draw(rows: Rows) -> Figure:
    """Draw latency and scaling efficiency over the number of devices, a line a variant and split."""
    rows = [{**row, "label": f"{row['variant']}, by {row['split']}"} for row in rows]
    latency = Panel("devices", "devices at once", "latency_ms", "latency of the slowest (ms)", "label")
    efficiency = Panel("devices", "devices at once", "efficiency", "scaling efficiency", "label", log_y=False)
    return lines([(latency, rows), (efficiency, rows)])


def conclude(rows: Rows) -> str:
    """Say what the largest number of devices gains, split by split."""
    most = max(row["devices"] for row in rows)
    one = rows[0]
    if most == 1:
        return f"There is one device of its kind here ({one['device_name']}), so nothing was split."
    said = [_gain(split, [row for row in rows if row["split"] == split and row["devices"] == most]) for split in SPLITS]
    return (
        f"{most} devices at once ({one['device_name']}), each with its share and no word between them, the slowest "
        f"one's time against that of one device with the whole problem: {'; '.join(part for part in said if part)}."
    )


def _gain(split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    parts = [
        f"{row['variant']} is {number(row['efficiency'] * row['devices'])} times as fast "
        f"({100 * row['efficiency']:.0f}% scaling efficiency)"
        for row in rows
    ]
    whole = "a batch" if split == "batch" else "heads"
    return f"with {whole} of {rows[0]['whole']} split, {listed(parts)}"


STUDY = Study("gpus", "How much faster are several devices on one problem?", collect, draw, conclude)
