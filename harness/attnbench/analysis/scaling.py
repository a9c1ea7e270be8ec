"""How latency grows with sequence length, where one variant overtakes another, and how far memory reaches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnbench.analysis.frame import current, rankable
from attnbench.analysis.series import Series, series

if TYPE_CHECKING:
    import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Points = dict[int, Floats]
INTERVAL = ["latency_ms", "latency_low_ms", "latency_high_ms"]
FEWEST_LENGTHS = 3


@dataclass(frozen=True)
class Exponent:
    """Latency grows as length ** `exponent` in one series; `low` to `high` bounds the local exponents."""

    series: Series
    variant: str
    lengths: int
    exponent: float
    low: float
    high: float


@dataclass(frozen=True)
class Crossover:
    """The length from which on `after` is faster than `before`; in `low` to `high` their intervals can't tell."""

    series: Series
    before: str
    after: str
    length: float
    low: float
    high: float


@dataclass(frozen=True)
class Reach:
    """The largest length that fits in memory and the smallest that does not; `all_fit`: every length tried did."""

    series: Series
    variant: str
    largest_ok: int | None
    smallest_out: int | None
    all_fit: bool


def exponents(frame: pd.DataFrame) -> list[Exponent]:
    """Fit each variant's exponent: the median of the slopes between all pairs of lengths (Theil and Sen).

    The slopes' interval comes from each latency's own interval and from the slopes of neighbouring lengths, so that
    a curve that bends has a wide one.
    """
    found = []
    for one in series(rankable(current(frame))):
        for variant, cells in one.frame.groupby("variant", sort=True):
            points = cells.groupby("length")[INTERVAL].median()
            if len(points) >= FEWEST_LENGTHS:
                found.append(Exponent(one, str(variant), len(points), *_slopes(points)))
    return found


def crossovers(frame: pd.DataFrame) -> list[Crossover]:
    """Find where one variant overtakes another for good: apart on both sides of one change of sign."""
    found: list[Crossover] = []
    for one in series(rankable(current(frame))):
        tables = {
            str(name): dict(zip(cells["length"].tolist(), cells[INTERVAL].to_numpy(dtype=float), strict=True))
            for name, cells in one.frame.groupby("variant", sort=True)
            if cells["length"].is_unique
        }
        for first, second in itertools.combinations(tables, 2):
            found += _crossings(one, (first, tables[first]), (second, tables[second]))
    return found


def reaches(frame: pd.DataFrame) -> list[Reach]:
    """Give how far each variant reached, for each setting in which some variant ran out of memory at some batch."""
    cells = current(frame)
    cells = cells[cells["exact"] & ~cells["control"] & ~cells["status"].isin(["unsupported", "interrupted"])]
    lines = series(cells)
    short = {one.setting for one in lines if (one.frame["status"] == "out_of_memory").any()}
    return [
        _reach(one, str(variant), own)
        for one in lines
        if one.setting in short
        for variant, own in one.frame.groupby("variant", sort=True)
    ]


def _reach(one: Series, variant: str, own: pd.DataFrame) -> Reach:
    fits, out = (own.loc[own["status"] == status, "length"] for status in ("ok", "out_of_memory"))
    largest, smallest = int(fits.max()) if len(fits) else None, int(out.min()) if len(out) else None
    return Reach(one, variant, largest, smallest, all_fit=len(fits) == len(own))


def _slopes(points: pd.DataFrame) -> tuple[float, float, float]:
    logs = np.log(points.to_numpy(dtype=float))
    lengths = np.log(points.index.to_numpy(dtype=float))
    pairs = list(itertools.combinations(range(len(lengths)), 2))
    middle = np.median([(logs[j, 0] - logs[i, 0]) / (lengths[j] - lengths[i]) for i, j in pairs])
    steps = list(itertools.pairwise(range(len(lengths))))
    low = min((logs[j, 1] - logs[i, 2]) / (lengths[j] - lengths[i]) for i, j in steps)
    high = max((logs[j, 2] - logs[i, 1]) / (lengths[j] - lengths[i]) for i, j in steps)
    return float(middle), float(min(low, middle)), float(max(high, middle))


def _crossings(one: Series, first: tuple[str, Points], second: tuple[str, Points]) -> Iterator[Crossover]:
    shared = sorted(first[1].keys() & second[1].keys())
    if len(shared) < 2:
        return
    ours, theirs = (np.log([points[length] for length in shared]) for points in (first[1], second[1]))
    lengths = np.log2(np.asarray(shared, dtype=float))
    middle, low, high = ours[:, 0] - theirs[:, 0], ours[:, 1] - theirs[:, 2], ours[:, 2] - theirs[:, 1]
    side = np.where(low > 0, 1, np.where(high < 0, -1, 0))
    apart = np.flatnonzero(side).tolist()
    changes = [(i, j) for i, j in itertools.pairwise(apart) if side[i] != side[j]]
    if len(changes) != 1:
        return
    start, end = changes[0]
    ends = sorted([_zero(lengths, low, start, end), _zero(lengths, high, start, end)])
    before, after = (first[0], second[0]) if side[start] < 0 else (second[0], first[0])
    yield Crossover(one, before, after, *(float(2**x) for x in (_zero(lengths, middle, start, end), *ends)))


def _zero(lengths: Floats, values: Floats, start: int, end: int) -> float:
    """Interpolate where `values` first changes its sign between two points, linearly in the logarithms."""
    for i in range(start, end):
        if values[i] == 0:
            return float(lengths[i])
        if values[i] * values[i + 1] < 0:
            share = values[i] / (values[i] - values[i + 1])
            return float(lengths[i] + share * (lengths[i + 1] - lengths[i]))
    return float(lengths[end])
