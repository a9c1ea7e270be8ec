"""Tables of what was fitted over sequence length: exponents, crossovers, reach of memory, regions of the fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.analysis.best import Region, best
from attnbench.analysis.scaling import Crossover, Exponent, Reach, crossovers, exponents, reaches
from attnbench.report.table import Cell, Table, row

if TYPE_CHECKING:
    import pandas as pd

MOST = 400  # rows a table on the page


def tables(frame: pd.DataFrame) -> list[Table]:
    """Make the tables that have a row."""
    made = [
        regions_table(best(frame)[:MOST]),
        Table(
            "Scaling exponents",
            ("device", "setting", "variant", "lengths", "exponent", "interval"),
            tuple(_exponent(one) for one in exponents(frame)[:MOST]),
            (
                (
                    "Latency grows as length to this power: the median slope between all pairs of lengths. The interval"
                    " spans the slopes of neighbouring lengths and their noise: a curve that bends has a wide one."
                ),
            ),
            labels=3,
        ),
        Table(
            "Crossover lengths",
            ("device", "setting", "faster before", "faster after", "length", "interval"),
            tuple(_crossover(one) for one in crossovers(frame)[:MOST]),
            ("Interpolated between measured lengths; within the interval the two can't be told apart.",),
            labels=4,
        ),
        Table(
            "Out-of-memory frontier",
            ("device", "setting", "variant", "largest that fits", "smallest that does not"),
            tuple(_reach(one) for one in reaches(frame)[:MOST]),
            labels=3,
        ),
    ]
    return [table for table in made if table.rows]


def regions_table(regions: Sequence[Region]) -> Table:
    """Give the dispatch table for people."""
    return Table(
        "Fastest variant by region of shapes",
        ("device", "setting", "lengths", "variant", "margin", "clear", "tied with"),
        tuple(_region(one) for one in regions),
        ("Margin: median factor to the first variant that is told to be slower. Clear: shapes without a tie.",),
        labels=4,
    )


def _region(one: Region) -> tuple[Cell, ...]:
    heads = f"H{one.heads}" + (f"/{one.kv_heads}" if one.kv_heads != one.heads else "")
    width = f"D{one.head_dim}" + (f"/{one.head_dim_v}" if one.head_dim_v != one.head_dim else "")
    setting = f"{one.direction} · {one.mask} · {one.dtype} · B{one.batch} {heads} {width}"
    lengths = f"{one.length_from}" if one.length_from == one.length_to else f"{one.length_from} to {one.length_to}"
    margin = "" if one.margin is None else f"{one.margin:.2f}x"
    return row(
        one.device_name, setting, lengths, one.variant, margin, f"{one.clear} of {one.shapes}", ", ".join(one.tied)
    )


def _exponent(one: Exponent) -> tuple[Cell, ...]:
    interval = f"{one.low:.2f} to {one.high:.2f}"
    return row(one.series.device_name, one.series.title, one.variant, one.lengths, f"{one.exponent:.2f}", interval)


def _crossover(one: Crossover) -> tuple[Cell, ...]:
    interval = f"{one.low:.0f} to {one.high:.0f}"
    return row(one.series.device_name, one.series.title, one.before, one.after, f"{one.length:.0f}", interval)


def _reach(one: Reach) -> tuple[Cell, ...]:
    out = "all that were tried" if one.smallest_out is None else one.smallest_out
    return row(one.series.device_name, one.series.title, one.variant, one.largest_ok or "none", out)
