"""How latency grows with sequence length, where one variant overtakes another, and how far memory reaches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from attnbench.analysis.series import Series, series

if TYPE_CHECKING:
    from attnbench.analysis.results import Results

Points = dict[int, tuple[float, ...]]  # by length: latency, the low and the high end of its interval
INTERVAL = ("latency_ms", "latency_low_ms", "latency_high_ms")
TRIED = ("variant", "status", "length")
OUT = "out_of_memory"
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


def exponents(results: Results) -> list[Exponent]:
    """Fit each variant's exponent: the median of the slopes between all pairs of lengths (Theil and Sen).

    The slopes' interval comes from each latency's own interval and from the slopes of neighbouring lengths, so that
    a curve that bends has a wide one.
    """
    return [
        Exponent(one, variant, len(points), *_slopes(points))
        for one in results.series
        for variant, points in _curves(one).items()
        if len(points) >= FEWEST_LENGTHS
    ]


def crossovers(results: Results) -> list[Crossover]:
    """Find where one variant overtakes another for good: apart on both sides of one change of sign."""
    found: list[Crossover] = []
    for one in results.series:
        for first, second in itertools.combinations(_curves(one).items(), 2):
            found += _crossings(one, first, second)
    return found


def reaches(results: Results) -> list[Reach]:
    """Give how far each variant reached, for each setting in which some variant ran out of memory at some batch."""
    cells = results.exact
    cells = cells[~cells["control"] & ~cells["status"].isin(["unsupported", "interrupted"])]
    lines = series(cells)
    short = {one.setting for one in lines if (one.frame["status"] == OUT).any()}
    return [reach for one in lines if one.setting in short for reach in _reaches(one)]


def _reaches(one: Series) -> Iterator[Reach]:
    lengths: dict[str, dict[str, list[int]]] = {}
    for variant, status, length in zip(*(one.frame[name].tolist() for name in TRIED), strict=True):
        lengths.setdefault(variant, {}).setdefault(status, []).append(length)
    for variant, by_status in sorted(lengths.items()):
        largest, smallest = max(by_status.get("ok", ()), default=None), min(by_status.get(OUT, ()), default=None)
        yield Reach(one, variant, largest, smallest, all_fit=set(by_status) == {"ok"})


def _curves(one: Series) -> dict[str, Points]:
    """Give latency and its interval by length, variant by variant; plain values, as pandas is slow on a few rows.

    Where a length was measured more than once, the medians of its values.
    """
    gathered: dict[str, dict[int, list[tuple[float, ...]]]] = {}
    columns = (one.frame[name].tolist() for name in ("variant", "length", *INTERVAL))
    for variant, length, *values in zip(*columns, strict=True):
        gathered.setdefault(variant, {}).setdefault(length, []).append(tuple(values))
    return {
        variant: {length: tuple(map(median, zip(*found, strict=True))) for length, found in sorted(points.items())}
        for variant, points in sorted(gathered.items())
    }


def _slopes(points: Points) -> tuple[float, float, float]:
    from scipy.stats import theilslopes  # takes a second to import, and most commands fit no exponent

    places = [(math.log(length), *map(math.log, values)) for length, values in points.items()]
    middle = float(theilslopes([place[1] for place in places], [place[0] for place in places]).slope)
    steps = list(itertools.pairwise(places))
    low = min((end[2] - start[3]) / (end[0] - start[0]) for start, end in steps)
    high = max((end[3] - start[2]) / (end[0] - start[0]) for start, end in steps)
    return middle, min(low, middle), max(high, middle)


def _crossings(one: Series, first: tuple[str, Points], second: tuple[str, Points]) -> Iterator[Crossover]:
    lengths = [length for length in first[1] if length in second[1]]
    pairs = [(first[1][length], second[1][length]) for length in lengths]
    side = [1 if ours[1] > theirs[2] else -1 if ours[2] < theirs[1] else 0 for ours, theirs in pairs]
    apart = [index for index, where in enumerate(side) if where]
    changes = [(i, j) for i, j in itertools.pairwise(apart) if side[i] != side[j]]
    if len(changes) != 1:
        return
    start, end = changes[0]
    places = [math.log2(length) for length in lengths]
    middle, low, high = (
        [math.log(ours[own] / theirs[other]) for ours, theirs in pairs] for own, other in ((0, 0), (1, 2), (2, 1))
    )
    ends = sorted([_zero(places, low, start, end), _zero(places, high, start, end)])
    before, after = (first[0], second[0]) if side[start] < 0 else (second[0], first[0])
    yield Crossover(one, before, after, *(2**place for place in (_zero(places, middle, start, end), *ends)))


def _zero(lengths: Sequence[float], values: Sequence[float], start: int, end: int) -> float:
    """Interpolate where `values` first changes its sign between two points, linearly in the logarithms."""
    for i in range(start, end):
        if values[i] == 0:
            return lengths[i]
        if values[i] * values[i + 1] < 0:
            share = values[i] / (values[i] - values[i + 1])
            return lengths[i] + share * (lengths[i + 1] - lengths[i])
    return lengths[end]
