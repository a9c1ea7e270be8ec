"""Tables of what follows from several cells: regions of the fastest, fits over length, shares of layers, devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.analysis.dispatch_table import Region, regions
from attnbench.analysis.scaling import Crossover, Exponent, Reach, crossovers, exponents, reaches
from attnbench.analysis.scaling_out import DeviceRatio, ParallelGain, Share, device_ratios, gains, shares
from attnbench.analysis.series import TITLE
from attnbench.report.table import Table, TableCell, row

if TYPE_CHECKING:
    from attnbench.analysis.results import Results

MOST = 400  # rows a table on the page
EXPONENT_NOTE = (
    "Latency grows as length to this power: the median slope between all pairs of lengths. The interval spans the"
    " slopes of neighbouring lengths and their noise: a curve that bends has a wide one."
)


@dataclass(frozen=True)
class Fits:
    """All that is fitted to a frame."""

    regions: tuple[Region, ...]
    exponents: tuple[Exponent, ...]
    crossovers: tuple[Crossover, ...]
    reaches: tuple[Reach, ...]
    shares: tuple[Share, ...]
    gains: tuple[ParallelGain, ...]
    ratios: tuple[DeviceRatio, ...]


def fit(results: Results) -> Fits:
    """Derive everything that the tables and charts of this kind show."""
    return Fits(
        tuple(regions(results)), tuple(exponents(results)), tuple(crossovers(results)), tuple(reaches(results)),
        tuple(shares(results)), tuple(gains(results)), tuple(device_ratios(results)),
    )  # fmt: skip


def tables(fits: Fits) -> list[Table]:
    """Make the tables that have a row."""
    made = [
        regions_table(fits.regions[:MOST]),
        Table(
            "Device against device",
            ("contest", "variant", "device", "over", "shapes", "speed-up", "range"),
            tuple(_ratio(one) for one in fits.ratios[:MOST]),
            ("Geometric mean over the shapes that the variant did on both devices.",),
            labels=4,
        ),
        Table(
            "Scaling exponents",
            ("device", "setting", "variant", "lengths", "exponent", "interval"),
            tuple(_exponent(one) for one in fits.exponents[:MOST]),
            (EXPONENT_NOTE,),
            labels=3,
        ),
        Table(
            "Crossover lengths",
            ("device", "setting", "faster before", "faster after", "length", "interval"),
            tuple(_crossover(one) for one in fits.crossovers[:MOST]),
            ("Interpolated between measured lengths; within the interval the two can't be told apart.",),
            labels=4,
        ),
        Table(
            "Out-of-memory frontier",
            ("device", "setting", "variant", "largest that fits", "smallest that does not"),
            tuple(_reach(one) for one in fits.reaches[:MOST]),
            labels=3,
        ),
        Table(
            "Attention's share of a layer",
            ("device", "layer", "variant", "layer (ms)", "attention alone (ms)", "share"),
            tuple(_share(one) for one in fits.shares[:MOST]),
            ("Attention alone was timed beside the layer, in the same run; the rest is the four projections.",),
            labels=3,
        ),
        Table(
            "Several devices at once",
            ("devices", "workload", "variant", "slowest (ms)", "one device (ms)", "times as fast", "efficiency"),
            tuple(_gain(one) for one in fits.gains[:MOST]),
            ("The slowest device's time with its share, against that of one device with the whole problem.",),
            labels=3,
        ),
    ]
    return [table for table in made if table.rows]


def _share(one: Share) -> tuple[TableCell, ...]:
    times = (f"{one.layer_ms:.3g}", f"{one.attention_ms:.3g}", f"{100 * one.share:.0f}%")
    return row(one.device_name, one.workload_id, one.variant, *times)


def _gain(one: ParallelGain) -> tuple[TableCell, ...]:
    times = (f"{one.latency_ms:.3g}", f"{one.alone_ms:.3g}", f"{one.alone_ms / one.latency_ms:.2f}x")
    return row(one.device_name, one.workload_id, one.variant, *times, f"{100 * one.efficiency:.0f}%")


def regions_table(table: Sequence[Region]) -> Table:
    """Give the dispatch table for people."""
    return Table(
        "Fastest variant by region of shapes",
        ("device", "setting", "lengths", "variant", "margin", "clear", "tied with"),
        tuple(_region(one) for one in table),
        ("Margin: median factor to the first variant that is told to be slower. Clear: shapes without a tie.",),
        labels=4,
    )


def _region(one: Region) -> tuple[TableCell, ...]:
    fields = one.setting
    heads, width = f"H{fields['heads']}", f"D{fields['head_dim']}"
    heads += f"/{fields['kv_heads']}" if fields["kv_heads"] != fields["heads"] else ""
    width += f"/{fields['head_dim_v']}" if fields["head_dim_v"] != fields["head_dim"] else ""
    title = " · ".join(fields[name] for name in TITLE)
    setting = f"{title} · B{fields['batch']} {heads} {width}"
    lengths = f"{one.length_from}" if one.length_from == one.length_to else f"{one.length_from} to {one.length_to}"
    margin = "" if one.margin is None else f"{one.margin:.2f}x"
    clear = f"{one.clear} of {one.shapes}"
    return row(fields["device_name"], setting, lengths, one.variant, margin, clear, ", ".join(one.tied))


def _ratio(one: DeviceRatio) -> tuple[TableCell, ...]:
    contest = f"{one.direction} · {one.mask} · {one.dtype}{'' if one.mode == 'hot' else f' · {one.mode}'}"
    span = f"{one.low:.2f}x to {one.high:.2f}x"
    return row(contest, one.variant, one.device, one.slower, one.shapes, f"{one.speedup:.2f}x", span)


def _exponent(one: Exponent) -> tuple[TableCell, ...]:
    interval = f"{one.low:.2f} to {one.high:.2f}"
    return row(one.series.device_name, one.series.title, one.variant, one.lengths, f"{one.exponent:.2f}", interval)


def _crossover(one: Crossover) -> tuple[TableCell, ...]:
    interval = f"{one.low:.0f} to {one.high:.0f}"
    return row(one.series.device_name, one.series.title, one.before, one.after, f"{one.length:.0f}", interval)


def _reach(one: Reach) -> tuple[TableCell, ...]:
    out = one.smallest_out or ("none that was tried" if one.all_fit else "none; longer ones failed otherwise")
    return row(one.series.device_name, one.series.title, one.variant, one.largest_ok or "none", out)
