"""Scaling over sequence length: growth exponents, lengths at which one variant overtakes another, memory limits."""

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
    """Latency grows as length ** `exponent` in one series; `low` to `high` is the interval."""

    series: Series
    variant: str
    lengths: int
    exponent: float
    low: float
    high: float


@dataclass(frozen=True)
class Crossover:
    """The length beyond which `after` is faster than `before`; from `low` to `high` the order is uncertain."""

    series: Series
    before: str
    after: str
    length: float
    low: float
    high: float


@dataclass(frozen=True)
class Reach:
    """A variant's largest length that fits in memory and its smallest that does not; `all_fit` if all tried did."""

    series: Series
    variant: str
    largest_ok: int | None
    smallest_out: int | None
    all_fit: bool


def exponents(results: Results) -> list[Exponent]:
    """Fit each variant's exponent: the median of the slopes between all pairs of lengths (Theil and Sen).

    The exponent's interval spans the slopes between neighbouring lengths, each widened by the latencies' own intervals,
    so that a curve that bends has a wide one.
    """
    return [
        Exponent(line, variant, len(points), *_slopes(points))
        for line in results.series
        for variant, points in _curves(line).items()
        if len(points) >= FEWEST_LENGTHS
    ]


def crossovers(results: Results) -> list[Crossover]:
    """Find where one variant overtakes another.

    A pair of variants has a crossover if, among the lengths at which their intervals do not overlap, the order changes
    exactly once.
    """
    found: list[Crossover] = []
    for line in results.series:
        for first, second in itertools.combinations(_curves(line).items(), 2):
            found += _crossings(line, first, second)
    return found


def reaches(results: Results) -> list[Reach]:
    """Return the memory limits of all variants, in each setting in which a variant ran out of memory at some batch."""
    cells = results.exact
    cells = cells[~cells["control"] & ~cells["status"].isin(["unsupported", "interrupted"])]
    lines = series(cells)
    short = {line.setting for line in lines if (line.frame["status"] == OUT).any()}
    return [reach for line in lines if line.setting in short for reach in _reaches(line)]


def _reaches(line: Series) -> Iterator[Reach]:
    lengths: dict[str, dict[str, list[int]]] = {}
    for variant, status, length in zip(*(line.frame[name].tolist() for name in TRIED), strict=True):
        lengths.setdefault(variant, {}).setdefault(status, []).append(length)
    for variant, by_status in sorted(lengths.items()):
        largest, smallest = max(by_status.get("ok", ()), default=None), min(by_status.get(OUT, ()), default=None)
        yield Reach(line, variant, largest, smallest, all_fit=set(by_status) == {"ok"})


def _curves(line: Series) -> dict[str, Points]:
    """Return each variant's latency and interval by length; medians if a length was measured more than once.

    In plain values, because pandas is slow on frames of a few rows.
    """
    gathered: dict[str, dict[int, list[tuple[float, ...]]]] = {}
    columns = (line.frame[name].tolist() for name in ("variant", "length", *INTERVAL))
    for variant, length, *values in zip(*columns, strict=True):
        gathered.setdefault(variant, {}).setdefault(length, []).append(tuple(values))
    return {
        variant: {length: tuple(map(median, zip(*found, strict=True))) for length, found in sorted(points.items())}
        for variant, points in sorted(gathered.items())
    }


def _slopes(points: Points) -> tuple[float, float, float]:
    """Return the exponent and the ends of its interval."""
    from scipy.stats import theilslopes  # takes a second to import, and most commands fit no exponent

    places = [(math.log(length), *map(math.log, values)) for length, values in points.items()]
    middle = float(theilslopes([place[1] for place in places], [place[0] for place in places]).slope)
    steps = list(itertools.pairwise(places))
    low = min((end[2] - start[3]) / (end[0] - start[0]) for start, end in steps)
    high = max((end[3] - start[2]) / (end[0] - start[0]) for start, end in steps)
    return middle, min(low, middle), max(high, middle)


def _crossings(line: Series, first: tuple[str, Points], second: tuple[str, Points]) -> Iterator[Crossover]:
    """Yield the crossover of two variants, if they have one."""
    lengths = [length for length in first[1] if length in second[1]]
    pairs = [(first[1][length], second[1][length]) for length in lengths]
    # At each length: 1 if the first variant is slower, -1 if the second is, 0 if their intervals overlap.
    order = [1 if one[1] > other[2] else -1 if one[2] < other[1] else 0 for one, other in pairs]
    decided = [index for index, sign in enumerate(order) if sign]
    changes = [(i, j) for i, j in itertools.pairwise(decided) if order[i] != order[j]]
    if len(changes) != 1:
        return
    start, end = changes[0]
    places = [math.log2(length) for length in lengths]
    middle, low, high = (  # the log-ratio of the latencies, and the extremes that their intervals allow
        [math.log(one[i] / other[j]) for one, other in pairs] for i, j in ((0, 0), (1, 2), (2, 1))
    )
    ends = sorted([_zero(places, low, start, end), _zero(places, high, start, end)])
    before, after = (first[0], second[0]) if order[start] < 0 else (second[0], first[0])
    yield Crossover(line, before, after, *(2**place for place in (_zero(places, middle, start, end), *ends)))


def _zero(lengths: Sequence[float], values: Sequence[float], start: int, end: int) -> float:
    """Return where `values` first changes its sign between two points, by linear interpolation of the logarithms."""
    for i in range(start, end):
        if values[i] == 0:
            return lengths[i]
        if values[i] * values[i + 1] < 0:
            share = values[i] / (values[i] - values[i + 1])
            return lengths[i] + share * (lengths[i + 1] - lengths[i])
    return lengths[end]
