"""Tables of values that are derived from several cells, such as verdicts, scaling exponents and device comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.analysis.device_scaling import DeviceRatio, ParallelGain, Share, device_ratios, gains, shares
from attnbench.analysis.dispatch_table import Region, regions
from attnbench.analysis.length_scaling import Crossover, Exponent, Reach, crossovers, exponents, reaches
from attnbench.analysis.load_runs import PROBLEM
from attnbench.analysis.ranking import CONTEST
from attnbench.analysis.series import TITLE
from attnbench.analysis.verdict import noise_text
from attnbench.plugins.variant import TRAITS
from attnbench.report.table import Table, TableCell, row
from attnbench.stats.paired import FASTER, PairedResult
from attnbench.untrusted import mapping

if TYPE_CHECKING:
    from attnbench.analysis.results import Results


SPAN = "smallest to largest"  # the heading of a column with the speed-ups of the worst and the best shape
MAX_ROWS = 400  # maximum number of rows per table
EXPONENT_NOTE = (
    "Latency divided by the batch grows as length to the power of the exponent, which is the median slope between all"
    " pairs of lengths. The interval spans the slopes between neighbouring lengths, including their noise; it is wide"
    " for a curve that bends. FLOPs divided by the batch grow with the exponent in the last column."
)
VERDICT_NOTE = (
    "Ratio of the variant's time to the baseline's, with a 95% interval over pairs of processes. same: the interval"
    " lies within 0.99 to 1.01. faster, slower: corrected for the number of rows, so that at most 5% of these verdicts"
    " are expected to be false. undecided: none of these. undecided (disturbed): others had the cores in most of the"
    " blocks of one of the two, so that there is only the ratio of their median times."
)
TRAIT_NOTES = (
    (
        "The tier sets the requirements. A fused variant keeps scores in float32 and must meet the strict error rule. A"
        " plain variant stores scores in the workload's dtype and is compared with a textbook implementation that does"
        " the same. A quantised variant computes in 8 bits."
    ),
    (
        "The alignment is that which a variant declares for its kernels on a GPU. The conformance suite does not test"
        " less aligned inputs, and attnbench.attention copies them."
    ),
    "Traits are measured. Only a variant that claims a trait must have it, because correct implementations differ.",
)


@dataclass(frozen=True)
class Fits:
    """Values that are each derived from several cells of the results."""

    regions: tuple[Region, ...]
    exponents: tuple[Exponent, ...]
    crossovers: tuple[Crossover, ...]
    reaches: tuple[Reach, ...]
    shares: tuple[Share, ...]
    gains: tuple[ParallelGain, ...]
    ratios: tuple[DeviceRatio, ...]
    warnings: tuple[str, ...] = ()


def fit(results: Results) -> Fits:
    """Return the values shown in the page's derived tables and the corresponding charts."""
    return Fits(
        tuple(regions(results)), tuple(exponents(results)), tuple(crossovers(results)), tuple(reaches(results)),
        tuple(shares(results)), tuple(gains(results)), tuple(device_ratios(results)),
        tuple(results.warnings),
    )  # fmt: skip


def derived_tables(fits: Fits) -> list[Table]:
    """Return all non-empty tables of derived values."""
    made = [
        regions_table(fits.regions[:MAX_ROWS], fits.warnings),
        Table(
            "Device against device",
            ("contest", "variant", "device", "over", "shapes", "speed-up", SPAN),
            tuple(_ratio(ratio) for ratio in fits.ratios[:MAX_ROWS]),
            ("Geometric mean over the shapes that the variant ran on both devices.",),
            labels=4,
        ),
        Table(
            "Scaling exponents",
            ("device", "setting", "variant", "lengths", "exponent", "interval", "FLOPs"),
            tuple(_exponent(exponent) for exponent in fits.exponents[:MAX_ROWS]),
            (EXPONENT_NOTE,),
            labels=3,
        ),
        Table(
            "Crossover lengths",
            ("device", "setting", "faster before", "faster after", "length", "interval"),
            tuple(_crossover(crossover) for crossover in fits.crossovers[:MAX_ROWS]),
            ("Interpolated between measured lengths. Within the interval, it is uncertain which variant is faster.",),
            labels=4,
        ),
        Table(
            "Out-of-memory frontier",
            ("device", "setting", "variant", "largest that fits", "smallest that does not"),
            tuple(_reach(reach) for reach in fits.reaches[:MAX_ROWS]),
            labels=3,
        ),
        Table(
            "Attention's share of a layer",
            ("device", "layer", "variant", "layer (ms)", "attention alone (ms)", "share"),
            tuple(_share(share) for share in fits.shares[:MAX_ROWS]),
            ("Attention alone was timed in the same run. The rest of the layer is its four projections.",),
            labels=3,
        ),
        Table(
            "Several devices on one problem",
            ("devices", "workload", "variant", "slowest (ms)", "one device (ms)", "times as fast", "efficiency"),
            tuple(_gain(gain) for gain in fits.gains[:MAX_ROWS]),
            ("The time of the slowest device on its share, compared with one device on the whole problem.",),
            labels=3,
        ),
    ]
    return [table for table in made if table.rows]


def _share(share: Share) -> tuple[TableCell, ...]:
    times = (f"{share.layer_ms:.3g}", f"{share.attention_ms:.3g}", f"{100 * share.share:.0f}%")
    return row(share.device_name, share.workload_id, share.variant, *times)


def _gain(gain: ParallelGain) -> tuple[TableCell, ...]:
    times = (f"{gain.latency_ms:.3g}", f"{gain.alone_ms:.3g}", f"{gain.alone_ms / gain.latency_ms:.2f}x")
    return row(gain.device_name, gain.workload_id, gain.variant, *times, f"{100 * gain.efficiency:.0f}%")


def regions_table(table: Sequence[Region], warnings: Sequence[str] = ()) -> Table:
    """Return the regions of a dispatch table as a report table, with the warnings of its results as notes."""
    return Table(
        "Fastest variant by region of shapes",
        ("device", "setting", "lengths", "variant", "margin", "clear", "tied with"),
        tuple(_region(region) for region in table),
        (
            "Margin: median speed-up over the next variant that is measurably slower. Clear: shapes without a tie.",
            *warnings,
        ),
        labels=4,
    )


def _region(region: Region) -> tuple[TableCell, ...]:
    fields = region.setting
    heads, width = f"H{fields['heads']}", f"D{fields['head_dim']}"
    heads += f"/{fields['kv_heads']}" if fields["kv_heads"] != fields["heads"] else ""
    width += f"/{fields['head_dim_v']}" if fields["head_dim_v"] != fields["head_dim"] else ""
    title = " · ".join(fields[name] for name in TITLE)
    setting = f"{title} · B{fields['batch']} {heads} {width}"
    lengths = " to ".join(dict.fromkeys((str(region.length_from), str(region.length_to))))
    margin = "" if region.margin is None else f"{region.margin:.2f}x"
    clear = f"{region.clear} of {region.shapes}"
    return row(fields["device_name"], setting, lengths, region.variant, margin, clear, ", ".join(region.tied))


def _ratio(ratio: DeviceRatio) -> tuple[TableCell, ...]:
    contest = f"{ratio.direction} · {ratio.mask} · {ratio.dtype}{'' if ratio.mode == 'hot' else f' · {ratio.mode}'}"
    span = f"{ratio.low:.2f}x to {ratio.high:.2f}x"
    return row(contest, ratio.variant, ratio.device, ratio.slower, ratio.shapes, f"{ratio.speedup:.2f}x", span)


def _exponent(exponent: Exponent) -> tuple[TableCell, ...]:
    line, interval = exponent.series, f"{exponent.low:.2f} to {exponent.high:.2f}"
    value = f"{exponent.exponent:.2f}"
    return row(
        line.device_name, line.title, exponent.variant, exponent.lengths, value, interval, f"{exponent.expected:.2f}"
    )


def _crossover(crossover: Crossover) -> tuple[TableCell, ...]:
    line, interval = crossover.series, f"{crossover.low:.0f} to {crossover.high:.0f}"
    return row(line.device_name, line.title, crossover.before, crossover.after, f"{crossover.length:.0f}", interval)


def _reach(reach: Reach) -> tuple[TableCell, ...]:
    out = reach.smallest_out or (
        "all lengths tried fit" if reach.all_fit else "unknown: longer ones failed for other reasons"
    )
    return row(reach.series.device_name, reach.series.title, reach.variant, reach.largest_ok or "none", out)


def verdict_tables(results: Results, limit: int | None = None) -> list[Table]:
    """Return the variants' verdicts against the baseline, in one table per device, mask, direction and mode."""
    made = []
    for (device, mask, direction, mode), cells in results.frame.groupby(CONTEST, sort=True):
        found: dict[str, dict[str, PairedResult]] = {}
        for *problem, variant, workload in cells[[*PROBLEM, "variant", "workload_id"]].itertuples(index=False):
            if comparison := results.comparisons.get((*problem, variant)):
                found.setdefault(workload, {})[variant] = comparison
        if not found:
            continue
        variants = sorted({variant for by_variant in found.values() for variant in by_variant})
        rows = [row(name, *(_verdict_cell(found[name].get(variant)) for variant in variants)) for name in sorted(found)]
        label = "" if mode == "hot" else f" · {mode}"
        title = f"{device} · {mask} · {direction}{label}: verdicts over {results.baseline}"
        notes = (VERDICT_NOTE, noise_text(results.noise_floor_within(cells)))
        made.append(Table(title, ("workload", *variants), tuple(rows), notes))
    return made[:limit]


def _verdict_cell(comparison: PairedResult | None) -> TableCell:
    if comparison is None:
        return TableCell("")
    low, high = comparison.low, comparison.high
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    reason = f" ({comparison.reason})" if comparison.reason else ""
    return TableCell(
        f"{comparison.verdict}{reason} {comparison.ratio:.3f}{interval}", best=comparison.verdict == FASTER
    )


def tiers_and_traits(manifests: Iterable[dict[str, Any]]) -> Table:
    """Return a table of each variant's tier and traits on each device, as recorded in the runs' manifests."""
    rows = dict.fromkeys(fields for manifest in manifests for fields in _trait_rows(manifest))
    return Table(
        "Conformance tiers and traits",
        ("variant", "device", "tier", "alignment (bytes)", *TRAITS),
        tuple(row(*fields) for fields in rows),
        TRAIT_NOTES,
        labels=3,
    )


def _trait_rows(manifest: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    declared = mapping(manifest.get("variants"))
    for device, variants in sorted(mapping(manifest.get("traits")).items()):
        for name, traits in sorted(mapping(variants).items()):
            found = [str(mapping(traits).get(trait, "not run")) for trait in TRAITS]
            about = mapping(declared.get(name))
            yield name, device, str(about.get("tier", "")), str(about.get("alignment_bytes", "")), *found
