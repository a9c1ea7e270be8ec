"""One kind of device against another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.analysis.load_runs import current, rankable

if TYPE_CHECKING:
    import pandas as pd

CONTEST = ["mode", "direction", "mask", "dtype", "variant"]


@dataclass(frozen=True)
class Ratio:
    """How much faster a variant is on `device` than on `slower`, over the shapes that it did on both."""

    device: str
    slower: str
    mode: str
    direction: str
    mask: str
    dtype: str
    variant: str
    shapes: int
    speedup: float  # geometric mean
    low: float  # smallest
    high: float  # largest


def ratios(frame: pd.DataFrame) -> list[Ratio]:
    """Compare each kind of device with the slowest one, variant by variant, on the shapes that both did."""
    ranked = rankable(current(frame))
    ranked = ranked[ranked["gpus"] == 1]
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
                    Ratio(str(device), slower, **fields, shapes=len(speedups), speedup=mean, low=min(speedups),
                          high=max(speedups))
                )  # fmt: skip
    return found


def _slowest(table: pd.DataFrame) -> Any:
    """Name the device that is slowest on the problems that all did, or, without such, over what it did."""
    common = table.dropna()
    return (common if len(common) else table).median().idxmax()
