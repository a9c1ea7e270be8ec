"""Attention's share of a layer's time, the speed-up from several devices, and comparisons of device models."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.analysis.results import Results
    from attnbench.workloads.workload import Workload

CONTEST = ["mode", "direction", "mask", "dtype", "variant"]
COLUMNS = ["run", "variant", "mode", "device_name", "workload", "latency_ms"]


@dataclass(frozen=True)
class Share:
    """The latency of a layer and of its attention alone, measured with the same variant in the same run."""

    device_name: str
    variant: str
    workload_id: str
    layer_ms: float
    attention_ms: float

    @property
    def share(self) -> float:
        """The fraction of the layer's time that attention takes."""
        return self.attention_ms / self.layer_ms


@dataclass(frozen=True)
class ParallelGain:
    """The speed-up from splitting one problem over several devices.

    `latency_ms` is the time that the slowest device needs for its part. `alone_ms` is the time that one device needs
    for the whole problem.
    """

    device_name: str
    variant: str
    mode: str
    workload: Workload
    latency_ms: float
    alone_ms: float

    @property
    def workload_id(self) -> str:
        """The workload's id."""
        return self.workload.id

    @property
    def gpus(self) -> int:
        """The number of devices that share the work."""
        return self.workload.gpus

    @property
    def efficiency(self) -> float:
        """The speed-up over one device, divided by the number of devices. A perfect split has an efficiency of 1."""
        return self.alone_ms / (self.gpus * self.latency_ms)


@dataclass(frozen=True)
class DeviceRatio:
    """A variant's speed-up on `device` relative to `slower`, computed from the shapes that ran on both."""

    device: str
    slower: str
    mode: str
    direction: str
    mask: str
    dtype: str
    variant: str
    shapes: int
    speedup: float  # geometric mean over the shapes
    low: float  # smallest speed-up on any shape
    high: float  # largest speed-up on any shape


def shares(results: Results) -> list[Share]:
    """Return attention's share of each layer's time.

    Layers whose attention was not timed on its own in the same run are left out.
    """
    if not results.current["embed_dim"].any():
        return []
    cells = _timed(results)
    alone = {_key(cell, cell["workload"]): cell["latency_ms"] for cell in cells if not cell["workload"].embed_dim}
    found = []
    for cell in cells:
        attention_ms = alone.get(_key(cell, dataclasses.replace(cell["workload"], embed_dim=0)))
        if cell["workload"].embed_dim and attention_ms is not None:
            names = cell["device_name"], cell["variant"], cell["workload"].id
            found.append(Share(*names, layer_ms=cell["latency_ms"], attention_ms=attention_ms))
    return sorted(found, key=lambda share: (share.device_name, share.workload_id, share.variant))


def gains(results: Results) -> list[ParallelGain]:
    """Return the speed-up of each cell that used several devices over the same workload on one device in the same run.

    Variants that always use several devices, such as ring attention, have no single-device time and are left out.
    """
    if not (results.current["gpus"] > 1).any():
        return []
    cells = _timed(results)
    alone: dict[Any, list[float]] = {}
    for cell in cells:
        if cell["workload"].gpus == 1:
            alone.setdefault(_key(cell, cell["workload"]), []).append(cell["latency_ms"])
    found = []
    for cell in cells:
        workload = cell["workload"]
        _, _, model = cell["device_name"].partition(" x ")  # "2 x NVIDIA H100" becomes "NVIDIA H100"
        times = alone.get(_key({**cell, "device_name": model}, dataclasses.replace(workload, gpus=1)))
        if workload.gpus > 1 and times:
            names = cell["device_name"], cell["variant"], cell["mode"]
            found.append(ParallelGain(*names, workload, latency_ms=cell["latency_ms"], alone_ms=median(times)))
    return sorted(found, key=lambda gain: (gain.workload_id, gain.variant, gain.device_name))


def device_ratios(results: Results) -> list[DeviceRatio]:
    """Return the speed-up of each variant on each device model over the slowest model.

    Only shapes that ran on both models are compared.
    """
    ranked = results.evidence[results.evidence["gpus"] == 1]
    if ranked["device_name"].nunique() < 2:
        return []
    table = ranked.pivot_table(
        index=[*CONTEST, "workload_id"], columns="device_name", values="latency_ms", aggfunc="last"
    )
    slower = str(_slowest(table))
    found = []
    for key, cells in table.groupby(level=CONTEST, sort=True):
        for device in table.columns:
            speedups = (cells[slower] / cells[device]).dropna().tolist()
            if device != slower and speedups:
                mean = math.exp(math.fsum(map(math.log, speedups)) / len(speedups))
                fields = dict(zip(CONTEST, map(str, key), strict=True))
                found.append(
                    DeviceRatio(str(device), slower, **fields, shapes=len(speedups), speedup=mean, low=min(speedups),
                          high=max(speedups))
                )  # fmt: skip
    return found


def _timed(results: Results) -> list[dict[Any, Any]]:
    latest = results.current
    timed = latest[(latest["status"] == "ok") & ~latest["control"] & latest["latency_ms"].notna()]
    return timed[COLUMNS].to_dict("records")


def _key(cell: dict[Any, Any], workload: Workload) -> tuple[Any, ...]:
    return cell["run"], cell["variant"], cell["mode"], cell["device_name"], workload


def _slowest(table: pd.DataFrame) -> Any:
    """Return the device with the largest median latency.

    Each device's median is taken over the problems that ran on all devices, or, if there are no such problems, over all
    problems that ran on that device.
    """
    common = table.dropna()
    return (common if len(common) else table).median().idxmax()
