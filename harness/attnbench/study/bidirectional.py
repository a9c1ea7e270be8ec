"""The `bidirectional` study, which compares causal attention, as in GPT, with unmasked attention, as in BERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.report.chart_definitions import size_text
from attnbench.study.figure import Panel, grouped, lines
from attnbench.study.study import Rows, Study, listed, number
from attnbench.study.timing import Grids, collector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"heads": 12, "head_dim": 64, "seq": [128, 256, 512, 1024], "dtype": "float32"},
    "cuda": {"batch": 8, "heads": 12, "head_dim": 64, "seq": [512, 1024, 2048, 4096, 8192], "dtype": "bfloat16"},
}


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Return a grid that runs each shape both without a mask and with the causal mask."""
    return [{**sizes, "mask": ["none", "causal"]}]


def ratios(rows: Rows) -> Rows:
    """Return a row for each variant and length measured both without a mask and with the causal mask.

    `ratio` is the latency with the causal mask divided by the latency without a mask. `pairs` is the share of query-key
    pairs that the causal mask leaves visible.
    """
    paired: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        paired.setdefault((row["variant"], row["seq_q"]), {})[row["mask"]] = row
    return [
        {
            "variant": variant,
            "seq_q": length,
            "ratio": pair["causal"]["latency_ms"] / pair["none"]["latency_ms"],
            "pairs": pair["causal"]["flops"] / pair["none"]["flops"],
        }
        for (variant, length), pair in sorted(paired.items())
        if len(pair) == 2
    ]


def draw(rows: Rows) -> Figure:
    """Draw the ratio of causal to bidirectional latency, with the share of visible query-key pairs for comparison."""
    measured = ratios(rows)
    share = {row["seq_q"]: row["pairs"] for row in measured}
    ideal = [{"variant": "share of visible pairs", "seq_q": length, "ratio": pairs} for length, pairs in share.items()]
    panel = Panel("seq_q", "tokens", "ratio", "latency, causal / bidirectional", log_y=False)
    return lines([(panel, measured + ideal)])


def conclude(rows: Rows) -> str:
    """Return a paragraph on each variant's latency ratio at its longest length, and on the share of visible pairs."""
    measured = ratios(rows)
    if not measured:
        return "No variant ran with both masks at the same length, so there is nothing to compare."
    parts = []
    for variant, its_rows in sorted(grouped(measured, "variant").items()):
        last = max(its_rows, key=lambda row: row["seq_q"])
        parts.append(f"{variant} takes {number(last['ratio'])} times as long at {size_text(last['seq_q'])} tokens")
    longest = max(measured, key=lambda row: row["seq_q"])
    return (
        f"At {size_text(longest['seq_q'])} tokens a causal mask leaves {100 * longest['pairs']:.1f}% of the query-key "
        f"pairs, so an implementation that skips the masked pairs would ideally need that share of the time. On "
        f"{rows[0]['device_name']}, with the causal mask instead of no mask, {listed(parts)}."
    )


STUDY = Study(
    "bidirectional",
    "What does a GPT-like mask save over a BERT-like one?",
    collector("bidirectional", SIZES, grids),
    draw,
    conclude,
)
