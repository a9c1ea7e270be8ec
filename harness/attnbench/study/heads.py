"""1 to 32 heads at one width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.study.figure import Panel, grouped, lines
from attnbench.study.study import Rows, Study
from attnbench.study.timing import Grids, collector
from attnbench.study.wording import listed, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"width": 512, "heads": [1, 2, 4, 8, 16, 32], "seq": 512, "batch": 1, "dtype": "float32"},
    "cuda": {"width": 2048, "heads": [1, 2, 4, 8, 16, 32], "seq": 4096, "batch": 4, "dtype": "bfloat16"},
}


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Split one width among ever more heads."""
    shared = {name: sizes[name] for name in ("seq", "batch", "dtype")}
    return [{"heads": heads, "head_dim": sizes["width"] // heads, **shared} for heads in sizes["heads"]]


def draw(rows: Rows) -> Figure:
    """Draw latency over the number of heads."""
    panel = Panel("heads", "heads", "latency_ms", "latency (ms)", low="latency_low_ms", high="latency_high_ms")
    return lines([(panel, rows)])


def conclude(rows: Rows) -> str:
    """Name each variant's fastest and slowest number of heads."""
    said = []
    for variant, own in sorted(grouped(rows, "variant").items()):
        fastest, slowest = (choose(own, key=lambda row: row["latency_ms"]) for choose in (min, max))
        counts = f"from {min(row['heads'] for row in own)} to {max(row['heads'] for row in own)} heads"
        said.append(
            f"{variant} ({counts}) is fastest with {fastest['heads']} ({number(fastest['latency_ms'])} ms) and slowest "
            f"with {slowest['heads']} ({number(slowest['latency_ms'])} ms, "
            f"{number(slowest['latency_ms'] / fastest['latency_ms'])} times as long)"
        )
    one = rows[0]
    return (
        f"At a width of {one['heads'] * one['head_dim']} and {one['seq_q']} tokens each number of heads does the same "
        f"{number(one['flops'] / 1e9)} GFLOP of matrix products, but softmax has as many scores as there are heads. On "
        f"{one['device_name']}, {listed(said)}."
    )


STUDY = Study("heads", "What do more heads cost at one width?", collector("heads", SIZES, grids), draw, conclude)
