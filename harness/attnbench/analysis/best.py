"""The dispatch table: which correct variant is fastest in which region of shapes, and what following it gains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from attnbench.analysis.frame import PROBLEM, current, rankable
from attnbench.analysis.series import series
from attnbench.errors import UsageError

SCHEMA = 1
EXACT = ("mode", "direction", "mask", "dtype", "head_dim", "head_dim_v", "softcap", "alibi", "dropout", "scale", "form")
NEAR = ("batch", "heads", "kv_heads")  # in whose logarithms regions lie near or far
FOLDS = 5


@dataclass(frozen=True)
class Region:
    """A range of lengths of one setting in which one variant is fastest, or no other is told to be faster.

    `order` ranks all variants that were measured there, fastest first; `margin` is the median factor to the first
    one that is told to be slower (None: nobody is); `clear` of `shapes` had no tie.
    """

    device_name: str
    variant: str
    order: tuple[str, ...]
    tied: tuple[str, ...]
    margin: float | None
    shapes: int
    clear: int
    length_from: int
    length_to: int
    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    head_dim_v: int
    dtype: str
    mask: str
    direction: str
    mode: str = "hot"
    form: str = "self"
    scale: float | None = None
    softcap: float | None = None
    alibi: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Gain:
    """What following the table would have gained over always taking one variant, on shapes that it had not seen."""

    over: str
    shapes: int
    gain: float  # geometric mean of the ratios of latencies
    worst: float

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"Following the dispatch table is {self.gain:.2f}x as fast as always taking {self.over}"
            f" (geometric mean over {self.shapes} shapes, each left out of the table that chose for it;"
            f" worst {self.worst:.2f}x)."
        )


def best(frame: pd.DataFrame) -> list[Region]:
    """Find the regions of a frame that `load` gave; lengths that follow each other join where one variant fits all."""
    found = []
    for one in series(rankable(current(frame))):
        shapes = [_ranked(cells) for _, cells in one.frame.groupby(["length", "workload_id"], sort=True)]
        while shapes:
            taken = _run(shapes)
            found.append(_region(shapes[:taken]))
            shapes = shapes[taken:]
    return sorted(found, key=lambda region: [str(value) for value in dataclasses.astuple(region)[-11:]])


def to_json(regions: Iterable[Region]) -> dict[str, Any]:
    """Give a dispatch table as JSON values."""
    return {"schema": SCHEMA, "regions": [dataclasses.asdict(region) for region in regions]}


def from_json(table: Mapping[str, Any]) -> list[Region]:
    """Read what `to_json` gave; raises UsageError for what it did not give."""
    if table.get("schema") != SCHEMA:
        raise UsageError(f"dispatch table has schema {table.get('schema')!r}: expected {SCHEMA}; make it again")
    known = {spec.name for spec in dataclasses.fields(Region)}
    try:
        rows = [{name: value for name, value in row.items() if name in known} for row in table["regions"]]
        return [Region(**{**row, "order": tuple(row["order"]), "tied": tuple(row["tied"])}) for row in rows]
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"dispatch table does not fit schema {SCHEMA}: {error}") from None


def pick(regions: Sequence[Region], shape: Mapping[str, Any]) -> Region | None:
    """Choose the nearest region to a shape; None where mask, direction, dtype or head_dim were never measured.

    `shape` has the fields of a region but for the outcome, and `length`. Near means the sum of the distances in
    octaves of length (0 inside the region's range), batch, heads and kv_heads.
    """
    alike = [region for region in regions if all(_same(getattr(region, name), shape[name]) for name in EXACT)]
    return min(alike, key=lambda region: _distance(region, shape), default=None)


def gain(frame: pd.DataFrame, over: str) -> dict[str, Gain]:
    """Cross-validate the table by device: for each fifth of the shapes, choose by a table made of the others."""
    ranked = rankable(current(frame))
    found = {}
    for device, cells in ranked.groupby("device_name", sort=True):
        ids = sorted(cells["workload_id"].unique())
        ratios = [
            ratio for fold in range(min(FOLDS, len(ids))) for ratio in _held_out(cells, set(ids[fold::FOLDS]), over)
        ]
        if ratios:
            found[str(device)] = Gain(over, len(ratios), float(np.exp(np.mean(np.log(ratios)))), min(ratios))
    return found


def shape_of(cell: Mapping[Any, Any]) -> dict[str, Any]:
    """Give what `pick` asks of a row of a frame with `length` and `form`."""
    return {name: cell[name] for name in (*EXACT, *NEAR, "length")}


def _ranked(cells: pd.DataFrame) -> pd.DataFrame:
    ordered = cells.sort_values("latency_ms", kind="stable").drop_duplicates("variant")
    return ordered.assign(first=ordered["latency_low_ms"] <= ordered["latency_high_ms"].iloc[0])


def _leaders(shape: pd.DataFrame) -> set[str]:
    return set(shape.loc[shape["first"], "variant"])


def _run(shapes: list[pd.DataFrame]) -> int:
    """Count how many shapes from the first on have a leader in common."""
    common = _leaders(shapes[0])
    for index, shape in enumerate(shapes):
        common &= _leaders(shape)
        if not common:
            return index
    return len(shapes)


def _region(shapes: list[pd.DataFrame]) -> Region:
    cells = pd.concat(shapes)
    logs = np.log(cells["latency_ms"]).groupby(cells["variant"]).agg(["mean", "size"])
    common = set.intersection(*(_leaders(shape) for shape in shapes))
    order = sorted(logs.index, key=lambda name: (name not in common, -logs["size"][name], logs["mean"][name], name))
    margins = [_margin(shape, order[0]) for shape in shapes]
    told = [margin for margin in margins if margin is not None]
    first = cells.iloc[0]
    setting = {name: _plain(first[name]) for name in ("device_name", *NEAR, *EXACT)}
    return Region(
        variant=order[0],
        order=tuple(order),
        tied=tuple(sorted(set().union(*(_leaders(shape) for shape in shapes)) - {order[0]})),
        margin=float(np.median(told)) if told else None,
        shapes=len(shapes),
        clear=sum(len(_leaders(shape)) == 1 for shape in shapes),
        length_from=int(cells["length"].min()),
        length_to=int(cells["length"].max()),
        **setting,
    )


def _margin(shape: pd.DataFrame, chosen: str) -> float | None:
    behind = shape.loc[~shape["first"], "latency_ms"]
    own = shape.loc[shape["variant"] == chosen, "latency_ms"].iloc[0]
    return float(behind.iloc[0] / own) if len(behind) else None


def _held_out(cells: pd.DataFrame, held: set[str], over: str) -> list[float]:
    seen = cells["workload_id"].isin(held)
    regions = best(cells[~seen])
    ratios = []
    for one in series(cells[seen]):
        for _, shape in one.frame.groupby(PROBLEM):
            latency = shape.set_index("variant")["latency_ms"]
            region = pick(regions, shape_of(shape.iloc[0].to_dict()))
            chosen = next((name for name in region.order if name in latency), None) if region else None
            if chosen and over in latency:
                ratios.append(float(latency[over] / latency[chosen]))
    return ratios


def _distance(region: Region, shape: Mapping[str, Any]) -> float:
    length = max(1, shape["length"])
    outside = max(region.length_from / length, length / region.length_to, 1.0)
    near = sum(abs(math.log2(max(1, getattr(region, name)) / max(1, shape[name]))) for name in NEAR)
    return math.log2(outside) + near


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN is what differs from itself


def _same(one: Any, other: Any) -> bool:
    return bool(_plain(one) == _plain(other))
