"""Attention sees all tokens at once; a recurrent layer steps through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.study.figure import Panel, derived, grouped, lines, size_text
from attnbench.study.study import Rows, Study
from attnbench.study.timing import Grids, collector
from attnbench.study.wording import listed, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"heads": 4, "head_dim": 32, "seq": [32, 64, 128, 256, 512, 1024], "dtype": "float32"},
    "cuda": {"batch": 8, "heads": 16, "head_dim": 64, "seq": [128, 256, 512, 1024, 2048, 4096], "dtype": "bfloat16"},
}
RECURRENT = ("lstm", "gru", "linear")  # what attention is held against; no run takes them unasked


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Train on ever longer sequences at one width."""
    return [{**sizes, "mask": "causal", "direction": "forward_backward"}]


def draw(rows: Rows) -> Figure:
    """Draw the time of a token over sequence length."""
    panel = Panel("seq_q", "tokens in the sequence", "us_per_token", "microseconds a token, training")
    return lines([(panel, _per_token(rows))])


def conclude(rows: Rows) -> str:
    """Compare what is no softmax attention, recurrent layers above all, with the fastest that is."""
    rows = _per_token(rows)
    attention, recurrent = ([row for row in rows if row["exact"] is exact] for exact in (True, False))
    if not attention or not recurrent:
        return "Attention and a recurrent layer did not both run, so there is nothing to compare."
    said = []
    for variant, own in sorted(grouped(recurrent, "variant").items()):
        ends = sorted({row["seq_q"]: row for row in own}.items())
        compared = [_against(row, attention) for row in dict((ends[0], ends[-1])).values()]
        said.append(f"{variant} takes {listed(compared)}")
    one = rows[0]
    return (
        f"Training at width {one['heads'] * one['head_dim']}, batch {one['batch']}, on {one['device_name']}, time a "
        f"token: {'; '.join(said)}. First stands what is no softmax attention, with whatever projections it "
        "has; second the fastest softmax attention at that length, which has none."
    )


def _against(row: Mapping[str, Any], attention: Rows) -> str:
    """Set a recurrent layer's time beside that of the fastest attention at the same length."""
    time, where = number(row["us_per_token"]), f"at {size_text(row['seq_q'])} tokens"
    rivals = [rival for rival in attention if rival["seq_q"] == row["seq_q"]]
    if not rivals:
        return f"{time} microseconds {where}"
    best = min(rivals, key=lambda rival: float(rival["us_per_token"]))
    return (
        f"{time} against {number(best['us_per_token'])} microseconds of {best['variant']} {where} "
        f"({number(row['us_per_token'] / best['us_per_token'])} times)"
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
