"""The study `bidirectional`: causal attention, as in GPT, against attention without a mask, as in BERT."""

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
    """Return a grid of the same shapes without and with the causal mask."""
    return [{**sizes, "mask": ["none", "causal"]}]


def ratios(rows: Rows) -> Rows:
    """Return the ratio of causal to bidirectional latency, and the share of visible pairs, by variant and length."""
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
    """Draw causal over bidirectional latency, beside the share of pairs that the causal mask leaves."""
    measured = ratios(rows)
    share = {row["seq_q"]: row["pairs"] for row in measured}
    ideal = [{"variant": "share of visible pairs", "seq_q": length, "ratio": pairs} for length, pairs in share.items()]
    panel = Panel("seq_q", "tokens", "ratio", "latency, causal over bidirectional", log_y=False)
    return lines([(panel, measured + ideal)])


def conclude(rows: Rows) -> str:
    """Return how much time each variant saves at the longest length, and how much it could."""
    measured = ratios(rows)
    if not measured:
        return "No variant ran with both masks at one length, so there is nothing to compare."
    parts = []
    for variant, its_rows in sorted(grouped(measured, "variant").items()):
        last = max(its_rows, key=lambda row: row["seq_q"])
        parts.append(f"{variant} takes {number(last['ratio'])} times as long at {size_text(last['seq_q'])} tokens")
    longest = max(measured, key=lambda row: row["seq_q"])
    return (
        f"At {size_text(longest['seq_q'])} tokens a causal mask leaves {100 * longest['pairs']:.1f}% of the query-key "
        f"pairs, so an implementation that skips all others would need that share of the time. On "
        f"{rows[0]['device_name']}, with the causal mask instead of none, {listed(parts)}."
    )


STUDY = Study(
    "bidirectional",
    "What does a GPT-like mask save over a BERT-like one?",
    collector("bidirectional", SIZES, grids),
    draw,
    conclude,
)
