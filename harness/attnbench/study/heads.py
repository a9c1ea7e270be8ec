"""The `heads` study, which divides the same model width among 1 to 32 heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.study.figure import Panel, grouped, lines
from attnbench.study.study import Rows, Study, listed, number
from attnbench.study.timing import Grids, collector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"width": 512, "heads": [1, 2, 4, 8, 16, 32], "seq": 512, "batch": 1, "dtype": "float32"},
    "cuda": {"width": 2048, "heads": [1, 2, 4, 8, 16, 32], "seq": 4096, "batch": 4, "dtype": "bfloat16"},
}


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Return a grid for each number of heads, all with the same model width."""
    shared = {name: sizes[name] for name in ("seq", "batch", "dtype")}
    return [{"heads": heads, "head_dim": sizes["width"] // heads, **shared} for heads in sizes["heads"]]


def draw(rows: Rows) -> Figure:
    """Draw latency against the number of heads."""
    panel = Panel("heads", "heads", "latency_ms", "latency (ms)", low="latency_low_ms", high="latency_high_ms")
    return lines([(panel, rows)])


def conclude(rows: Rows) -> str:
    """Return a paragraph on the fastest and the slowest number of heads for each variant."""
    parts = []
    for variant, its_rows in sorted(grouped(rows, "variant").items()):
        fastest, slowest = (choose(its_rows, key=lambda row: row["latency_ms"]) for choose in (min, max))
        counts = f"from {min(row['heads'] for row in its_rows)} to {max(row['heads'] for row in its_rows)} heads"
        parts.append(
            f"{variant} ({counts}) is fastest with {fastest['heads']} ({number(fastest['latency_ms'])} ms) and slowest "
            f"with {slowest['heads']} ({number(slowest['latency_ms'])} ms, "
            f"{number(slowest['latency_ms'] / fastest['latency_ms'])} times as long)"
        )
    first = rows[0]
    gflop = number(first["flops"] / 1e9)
    return (
        f"At a width of {first['heads'] * first['head_dim']} and {first['seq_q']} tokens, every number of heads needs "
        f"the same {gflop} GFLOP of matrix products, but more heads give the softmax more scores. "
        f"On {first['device_name']}, {listed(parts)}."
    )


STUDY = Study("heads", "What do more heads cost at one width?", collector("heads", SIZES, grids), draw, conclude)
