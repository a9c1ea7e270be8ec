"""Several devices at work at once, and one kind of device against another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.analysis.frame import current, rankable
from attnbench.analysis.series import shape_text, with_length

if TYPE_CHECKING:
    import pandas as pd

COPIES, BATCH, HEADS = "a copy each", "batch split", "heads split"
CELL = ["environment_id", "device_name", "variant", "workload_id", "mode"]
WHOLE = [
    "environment_id", "device_name", "variant", "mode", "direction", "mask", "dtype", "seq_q", "seq_k", "head_dim",
    "head_dim_v", "scale", "softcap", "alibi", "dropout", "form",
]  # fmt: skip
CONTEST = ["mode", "direction", "mask", "dtype", "variant"]


@dataclass(frozen=True)
class Scaling:
    """`devices` of one model at work at once are `speedup` times as fast as one; `efficiency` 1 is a perfect split."""

    device_name: str
    mode: str
    direction: str
    mask: str
    dtype: str
    shape: str  # of the whole problem
    variant: str
    split: str  # COPIES: each device does the whole problem; BATCH and HEADS: each does its share
    devices: int
    speedup: float
    low: float
    high: float

    @property
    def efficiency(self) -> float:
        """Speed-up over the number of devices."""
        return self.speedup / self.devices


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


def scalings(frame: pd.DataFrame) -> list[Scaling]:
    """Find what several devices of one run gain over one device of another; the slowest device's time counts."""
    teams = _teams(frame)
    if not len(teams) or teams["devices"].max() < 2:
        return []
    found: list[Scaling] = []
    for _, cells in teams.groupby(WHOLE, dropna=False, sort=True):
        if len(set(cells["devices"])) > 1:
            found += _scalings([{str(name): row[name] for name in row} for row in cells.to_dict("records")])
    return sorted(found, key=lambda one: (one.device_name, one.shape, one.split, one.variant, one.devices))


def ratios(frame: pd.DataFrame) -> list[Ratio]:
    """Compare each kind of device with the slowest one, variant by variant, on the shapes that both did."""
    ranked = rankable(current(frame))
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


def _teams(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a row a run's cell: how many devices did it at once, and the slowest one's time."""
    ranked = with_length(rankable(frame).sort_values("started_at", kind="stable"))
    ranked = ranked.drop_duplicates(["run", "device", *CELL], keep="last").sort_values("latency_ms", kind="stable")
    key = ["run", *CELL]
    count = ranked.groupby(key)["device"].nunique().rename("devices")
    return ranked.drop_duplicates(key, keep="last").join(count, on=key)


def _scalings(cells: Sequence[Mapping[str, Any]]) -> Iterator[Scaling]:
    """Hold each team against each single device that did the whole of its problem."""
    latest = {(cell["devices"], cell["workload_id"]): cell for cell in cells}.values()
    for alone in latest:
        if alone["devices"] > 1:
            continue
        teams = [(cell, _split(alone, cell)) for cell in latest if cell["devices"] > 1]
        splits = sorted({split for _, split in teams if split})
        for split in splits:
            yield _scaling(alone, alone, split)
            yield from (_scaling(alone, cell, split) for cell, own in teams if own == split)


def _split(alone: Mapping[str, Any], cell: Mapping[str, Any]) -> str | None:
    """Say how a team shares the problem of a single device; None where it is another problem."""
    count = cell["devices"]
    shares = {name: alone[name] == count * cell[name] for name in ("batch", "heads", "kv_heads")}
    same = {name: alone[name] == cell[name] for name in shares}
    if all(same.values()):
        return COPIES
    if shares["batch"] and same["heads"] and same["kv_heads"]:
        return BATCH
    return HEADS if shares["heads"] and shares["kv_heads"] and same["batch"] else None


def _scaling(alone: Mapping[str, Any], cell: Mapping[str, Any], split: str) -> Scaling:
    work = cell["devices"] if split == COPIES else 1
    names = ("device_name", "mode", "direction", "mask", "dtype", "variant")
    single = cell["devices"] == 1
    return Scaling(
        **{name: alone[name] for name in names},
        shape=f"B{alone['batch']} S{alone['length']} {shape_text(alone)}",
        split=split,
        devices=int(cell["devices"]),
        speedup=work * alone["latency_ms"] / cell["latency_ms"],
        low=1.0 if single else work * alone["latency_low_ms"] / cell["latency_high_ms"],
        high=1.0 if single else work * alone["latency_high_ms"] / cell["latency_low_ms"],
    )


def _slowest(table: pd.DataFrame) -> Any:
    """Name the device that is slowest on the problems that all did, or, without such, over what it did."""
    common = table.dropna()
    return (common if len(common) else table).median().idxmax()
