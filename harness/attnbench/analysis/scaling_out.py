"""What surrounds attention: its share of a whole layer, and what several devices at once gain."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from attnbench.analysis.load_runs import current

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.workloads.workload import Workload

COLUMNS = ["run", "variant", "mode", "device_name", "workload", "latency_ms"]


@dataclass(frozen=True)
class Share:
    """A layer's latency, and that of its attention alone, by the same variant in the same run."""

    device_name: str
    variant: str
    workload_id: str
    layer_ms: float
    attention_ms: float

    @property
    def share(self) -> float:
        """Attention's part of the layer's time."""
        return self.attention_ms / self.layer_ms


@dataclass(frozen=True)
class Gain:
    """The time of several devices at once, their slowest one's, and that of one device with the whole problem."""

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
        """How many devices share the work."""
        return self.workload.gpus

    @property
    def efficiency(self) -> float:
        """One device's time over that of all of them together; 1 is a perfect split."""
        return self.alone_ms / (self.gpus * self.latency_ms)


def shares(frame: pd.DataFrame) -> list[Share]:
    """Find attention's share in each layer whose attention alone was timed beside it."""
    if not frame["embed_dim"].any():
        return []
    cells = _timed(frame)
    alone = {_key(cell, cell["workload"]): cell["latency_ms"] for cell in cells if not cell["workload"].embed_dim}
    found = []
    for cell in cells:
        bare = alone.get(_key(cell, dataclasses.replace(cell["workload"], embed_dim=0)))
        if cell["workload"].embed_dim and bare is not None:
            found.append(Share(cell["device_name"], cell["variant"], cell["workload"].id, cell["latency_ms"], bare))
    return sorted(found, key=lambda one: (one.device_name, one.workload_id, one.variant))


def gains(frame: pd.DataFrame) -> list[Gain]:
    """Set each cell of several devices beside the same variant's on one of them in the same run.

    A variant that spans devices by itself, as a ring does, has no time on one.
    """
    if not (frame["gpus"] > 1).any():
        return []
    cells = _timed(frame)
    alone: dict[Any, list[float]] = {}
    for cell in cells:
        if cell["workload"].gpus == 1:
            alone.setdefault(_key(cell, cell["workload"]), []).append(cell["latency_ms"])
    found = []
    for cell in cells:
        w = cell["workload"]
        _, _, member = cell["device_name"].partition(" x ")
        own = alone.get(_key({**cell, "device_name": member}, dataclasses.replace(w, gpus=1)))
        if w.gpus > 1 and own:
            names = cell["device_name"], cell["variant"], cell["mode"]
            found.append(Gain(*names, w, cell["latency_ms"], median(own)))
    return sorted(found, key=lambda one: (one.workload_id, one.variant, one.device_name))


def _timed(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    latest = current(frame)
    timed = latest[(latest["status"] == "ok") & ~latest["control"] & latest["latency_ms"].notna()]
    return timed[COLUMNS].to_dict("records")


def _key(cell: dict[Any, Any], workload: Workload) -> tuple[Any, ...]:
    return cell["run"], cell["variant"], cell["mode"], cell["device_name"], workload
