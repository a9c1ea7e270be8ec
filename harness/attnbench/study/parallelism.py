"""The `parallelism` study, which compares attention with recurrent layers that process one token after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.report.chart_definitions import size_text
from attnbench.study.figure import Panel, derived, grouped, lines
from attnbench.study.study import Rows, Study, listed, number
from attnbench.study.timing import Grids, collector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"heads": 4, "head_dim": 32, "seq": [32, 64, 128, 256, 512, 1024], "dtype": "float32"},
    "cuda": {"batch": 8, "heads": 16, "head_dim": 64, "seq": [128, 256, 512, 1024, 2048, 4096], "dtype": "bfloat16"},
}
RECURRENT = ("lstm", "gru", "linear")  # variants to compare with attention; they do not run by default


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Return a grid of training steps on sequences of growing length, all with the same width."""
    return [{**sizes, "mask": "causal", "direction": "forward_backward"}]


def draw(rows: Rows) -> Figure:
    """Draw the time per token against the sequence length."""
    panel = Panel("seq_q", "tokens in the sequence", "us_per_token", "microseconds per token, training")
    return lines([(panel, _per_token(rows))])


def conclude(rows: Rows) -> str:
    """Return a paragraph that compares recurrent layers and linear attention with the fastest softmax attention."""
    rows = _per_token(rows)
    attention, recurrent = ([row for row in rows if row["exact"] is exact] for exact in (True, False))
    if not attention or not recurrent:
        return "There is nothing to compare, because attention or the recurrent layers did not run."
    parts = []
    for variant, its_rows in sorted(grouped(recurrent, "variant").items()):
        by_length = sorted({row["seq_q"]: row for row in its_rows}.items())
        shortest_and_longest = dict((by_length[0], by_length[-1])).values()
        parts.append(f"{variant} takes {listed([_compare(row, attention) for row in shortest_and_longest])}")
    first = rows[0]
    return (
        f"Training at width {first['heads'] * first['head_dim']}, batch {first['batch']}, on {first['device_name']}, "
        f"time per token: {'; '.join(parts)}. Recurrent layers and linear attention are timed with their "
        "projections, and compared with the fastest softmax attention at the same length, which has no projections."
    )


def _compare(row: Mapping[str, Any], attention: Rows) -> str:
    """Return a phrase that compares a row's time per token with that of the fastest attention at the same length."""
    time, where = number(row["us_per_token"]), f"at {size_text(row['seq_q'])} tokens"
    rivals = [rival for rival in attention if rival["seq_q"] == row["seq_q"]]
    if not rivals:
        return f"{time} microseconds {where}"
    best = min(rivals, key=lambda rival: float(rival["us_per_token"]))
    return (
        f"{time} microseconds {where} ({number(row['us_per_token'] / best['us_per_token'])} times as long as "
        f"{best['variant']}, at {number(best['us_per_token'])})"
    )


def _per_token(rows: Rows) -> Rows:
    return derived(rows, "us_per_token", lambda row: 1e3 * row["latency_ms"] / (row["batch"] * row["seq_q"]))


STUDY = Study(
    "parallelism",
    "Does attention train in parallel where a recurrent layer steps through time?",
    collector("parallelism", SIZES, grids, RECURRENT),
    draw,
    conclude,
)
