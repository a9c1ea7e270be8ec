"""The `context` study, which measures the cost of a wider context window with a causal mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.report.chart_definitions import size_text
from attnbench.study.figure import Panel, derived, grouped, lines
from attnbench.study.study import Rows, Study, exponent, number
from attnbench.study.timing import Grids, collector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"heads": 8, "head_dim": 64, "seq": [128, 256, 512, 1024, 2048], "dtype": "float32"},
    "cuda": {"heads": 16, "head_dim": 128, "seq": [1024, 2048, 4096, 8192, 16384, 32768], "dtype": "bfloat16"},
}


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Return a grid in which only the context length varies."""
    return [{**sizes, "mask": "causal"}]


def draw(rows: Rows) -> Figure:
    """Draw latency and latency per token against the context length."""
    rows = derived(rows, "us_per_token", lambda row: 1e3 * row["latency_ms"] / (row["batch"] * row["seq_q"]))
    whole = Panel(
        "seq_q", "context (tokens)", "latency_ms", "latency (ms)", low="latency_low_ms", high="latency_high_ms"
    )
    return lines([(whole, rows), (Panel("seq_q", "context (tokens)", "us_per_token", "microseconds per token"), rows)])


def conclude(rows: Rows) -> str:
    """Return a sentence on how each variant's latency grows with the context length."""
    parts = []
    for variant, its_rows in sorted(grouped(rows, "variant").items()):
        its_rows.sort(key=lambda row: row["seq_q"])
        first, last = its_rows[0], its_rows[-1]
        if first is last:
            parts.append(f"{variant} ran only at {size_text(first['seq_q'])} tokens ({number(first['latency_ms'])} ms)")
            continue
        before = its_rows[-2]
        growth = exponent((before["seq_q"], before["latency_ms"]), (last["seq_q"], last["latency_ms"]))
        times = number(last["latency_ms"] / first["latency_ms"])
        parts.append(
            f"{variant} goes from {number(first['latency_ms'])} ms at {size_text(first['seq_q'])} tokens to "
            f"{number(last['latency_ms'])} ms at {size_text(last['seq_q'])}, which is {times} times as long for "
            f"{number(last['seq_q'] / first['seq_q'])} times the context (between the two longest contexts, latency "
            f"grows as the context to the power of {growth:.2f})"
        )
    return f"On {rows[0]['device_name']}, with a causal mask, {'; '.join(parts)}."


STUDY = Study("context", "What does a wider context window cost?", collector("context", SIZES, grids), draw, conclude)
