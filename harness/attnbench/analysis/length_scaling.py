"""Scaling with sequence length: growth exponents, crossovers between variants, and memory limits."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from attnbench.analysis.series import Series, series
from attnbench.record import HARNESS_OUT_OF_MEMORY

if TYPE_CHECKING:
    from attnbench.analysis.results import Results

Points = dict[int, tuple[float, ...]]  # key: length; value: the latency and the ends of its interval, in ms, and others
INTERVAL = ("latency_ms", "latency_low_ms", "latency_high_ms")
OUT_OF_MEMORY = "out_of_memory"
MIN_LENGTHS = 3  # fitting an exponent takes at least this many lengths, because any two points lie on a line


@dataclass(frozen=True)
class Exponent:
    """The growth of a variant's latency for each batch element in one series, as length ** `exponent`.

    `low` and `high` are the ends of the exponent's interval, and `lengths` is the number of measured lengths.
    `expected` is the exponent of the FLOPs in the same series: 2 for whole sequences, and 1 for decoding or a window.
    """

    series: Series
    variant: str
    lengths: int
    exponent: float
    low: float
    high: float
    expected: float


@dataclass(frozen=True)
class Crossover:
    """The length at which the variant `after` overtakes the variant `before`.

    Between the lengths `low` and `high`, the order of the two variants is uncertain.
    """

    series: Series
    before: str
    after: str
    length: float
    low: float
    high: float


@dataclass(frozen=True)
class Reach:
    """The largest length at which a variant fits in memory, and the smallest length at which it does not.

    `all_fit` is true if the variant ran at every length that was tried.
    """

    series: Series
    variant: str
    largest_ok: int | None
    smallest_out: int | None
    all_fit: bool


def exponents(results: Results) -> list[Exponent]:
    """Fit the growth exponent of each variant in each series.

    Latencies are divided by the batch, because some series have fewer sequences the longer they are. Series in which
    queries and keys grow independently of each other have no exponent.

    The exponent is the median of the slopes between all pairs of lengths on logarithmic axes (the Theil-Sen estimator).
    Its interval spans the slopes between neighbouring lengths, widened by the intervals of the latencies. A curve that
    bends therefore has a wide interval.
    """
    return [
        Exponent(line, variant, len(points), *_slopes(points))
        for line in series(results.evidence)
        if _grows_in_one_way(line)
        for variant, points in _curves(_by_batch_element(line), (*INTERVAL, "flops")).items()
        if len(points) >= MIN_LENGTHS
    ]


def crossovers(results: Results) -> list[Crossover]:
    """Find the lengths at which one variant overtakes another.

    Only lengths at which the intervals of the two variants do not overlap are considered. Two variants have a crossover
    if their order changes exactly once over these lengths.
    """
    found: list[Crossover] = []
    for line in series(results.evidence):
        for first, second in itertools.combinations(_curves(line).items(), 2):
            found += _crossings(line, first, second)
    return found


def reaches(results: Results) -> list[Reach]:
    """Return the memory limits of all variants in each setting in which at least one variant ran out of memory.

    Cells in which the harness itself ran out of memory say nothing about the variant's limit, so they are left out.
    """
    cells = results.exact
    cells = cells[cells["flags"].map(lambda flags: HARNESS_OUT_OF_MEMORY not in (flags or ())).astype(bool)]
    cells = cells[~cells["control"] & ~cells["status"].isin(["unsupported", "interrupted"])]
    lines = series(cells)
    short = {line.setting for line in lines if (line.frame["status"] == OUT_OF_MEMORY).any()}
    return [reach for line in lines if line.setting in short for reach in _reaches(line)]


def _reaches(line: Series) -> Iterator[Reach]:
    lengths: dict[str, dict[str, list[int]]] = {}
    for variant, status, length in zip(
        *(line.frame[name].tolist() for name in ("variant", "status", "length")), strict=True
    ):
        lengths.setdefault(variant, {}).setdefault(status, []).append(length)
    for variant, by_status in sorted(lengths.items()):
        largest = max(by_status.get("ok", ()), default=None)
        smallest = min(by_status.get(OUT_OF_MEMORY, ()), default=None)
        yield Reach(line, variant, largest, smallest, all_fit=set(by_status) == {"ok"})


def _grows_in_one_way(line: Series) -> bool:
    """Return whether only the number of queries grows, only that of keys, or both in the same ratio."""
    shapes = set(zip(line.frame["seq_q"].tolist(), line.frame["seq_k"].tolist(), strict=True))
    measures = ([queries for queries, _ in shapes], [keys for _, keys in shapes], [q / k for q, k in shapes])
    return any(len(set(values)) == 1 for values in measures)


def _by_batch_element(line: Series) -> Series:
    """Return the series with latencies and FLOPs of one batch element."""
    counted = line.frame.assign(flops=[workload.flops() for workload in line.frame["workload"]])
    numbers = counted[[*INTERVAL, "flops"]].div(counted["batch"], axis=0)
    return dataclasses.replace(line, frame=counted.assign(**numbers))


def _curves(line: Series, columns: Sequence[str] = INTERVAL) -> dict[str, Points]:
    """Return the values of each variant in some columns, by default its latencies and their intervals, keyed by length.

    If a length was measured more than once, the medians of the values are used. The result holds plain Python values,
    because pandas is slow on frames with only a few rows.
    """
    gathered: dict[str, dict[int, list[tuple[float, ...]]]] = {}
    values_of = (line.frame[name].tolist() for name in ("variant", "length", *columns))
    for variant, length, *values in zip(*values_of, strict=True):
        gathered.setdefault(variant, {}).setdefault(length, []).append(tuple(values))
    return {
        variant: {length: tuple(map(median, zip(*found, strict=True))) for length, found in sorted(points.items())}
        for variant, points in sorted(gathered.items())
    }


def _slopes(points: Points) -> tuple[float, float, float, float]:
    """Return the exponent of a curve, the ends of the exponent's interval, and the exponent of the FLOPs."""
    # Imported here because the import takes a second, and most commands don't need it.
    from scipy.stats import theilslopes

    places = [(math.log(length), *map(math.log, values)) for length, values in points.items()]
    middle, expected = (
        float(theilslopes([place[at] for place in places], [place[0] for place in places]).slope) for at in (1, 4)
    )
    steps = list(itertools.pairwise(places))
    low = min((end[2] - start[3]) / (end[0] - start[0]) for start, end in steps)
    high = max((end[3] - start[2]) / (end[0] - start[0]) for start, end in steps)
    return middle, min(low, middle), max(high, middle), expected


def _crossings(line: Series, first: tuple[str, Points], second: tuple[str, Points]) -> Iterator[Crossover]:
    """Yield the crossover of two variants, if their order changes exactly once."""
    lengths = [length for length in first[1] if length in second[1]]
    pairs = [(first[1][length], second[1][length]) for length in lengths]
    # At each length: 1 if the first variant is slower, -1 if the second is slower, 0 if their intervals overlap.
    order = [1 if one[1] > other[2] else -1 if one[2] < other[1] else 0 for one, other in pairs]
    decided = [index for index, sign in enumerate(order) if sign]
    changes = [(i, j) for i, j in itertools.pairwise(decided) if order[i] != order[j]]
    if len(changes) != 1:
        return
    start, end = changes[0]
    places = [math.log2(length) for length in lengths]
    # At each length: the log of the latency ratio, and the lowest and highest values that the intervals allow.
    middle, low, high = ([math.log(one[i] / other[j]) for one, other in pairs] for i, j in ((0, 0), (1, 2), (2, 1)))
    ends = sorted([_zero(places, low, start, end), _zero(places, high, start, end)])
    before, after = (first[0], second[0]) if order[start] < 0 else (second[0], first[0])
    yield Crossover(line, before, after, *(2**place for place in (_zero(places, middle, start, end), *ends)))


def _zero(lengths: Sequence[float], values: Sequence[float], start: int, end: int) -> float:
    """Return the length at which `values` first changes sign between the indices `start` and `end`.

    The length is interpolated linearly. If the sign does not change, the length at `end` is returned. `lengths` and the
    result are base-2 logarithms.
    """
    for i in range(start, end):
        if values[i] == 0:
            return lengths[i]
        if values[i] * values[i + 1] < 0:
            share = values[i] / (values[i] - values[i + 1])
            return lengths[i] + share * (lengths[i + 1] - lengths[i])
    return lengths[end]
