"""The `memory` study, which measures memory use and the largest batch that fits, for growing sequence lengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError
from attnbench.report.chart_definitions import size_text
from attnbench.study.figure import Panel, derived, grouped, lines
from attnbench.study.study import Rows, Settings, Study, bytes_text, exponent, listed
from attnbench.study.timing import Grids, collector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {
    "cpu": {"heads": 8, "head_dim": 64, "seq": [128, 256, 512, 1024, 2048], "dtype": "float32"},
    "cuda": {"heads": 16, "head_dim": 128, "seq": [1024, 2048, 4096, 8192, 16384], "dtype": "bfloat16"},
}


def grids(sizes: Mapping[str, Any]) -> Grids:
    """Return a grid of training steps on a single sequence of each length."""
    return [{**sizes, "mask": "causal", "direction": "forward_backward"}]


def collect(settings: Settings, folder: Path) -> Rows:
    """For each length, measure the memory that a training step on a single sequence needs, including its inputs.

    The largest batch is the device's memory divided by the memory that one sequence needs.
    """
    import psutil

    from attnbench.plan.devices import choose_devices

    device = choose_devices([settings.device] if settings.device else [])[0]
    memory_bytes = psutil.virtual_memory().total if device.kind == "cpu" else device.memory_bytes
    if memory_bytes is None:
        raise AttnbenchError(f"the driver does not report the memory of {device.name}: choose another device")
    rows = collector("memory", SIZES, grids)(settings, folder)
    measured = [row for row in rows if row["peak_bytes"]]
    return derived(
        derived(measured, "sequence_bytes", lambda row: row["peak_bytes"] + _input_bytes(row)),
        "largest_batch",
        lambda row: memory_bytes // (row["peak_bytes"] + _input_bytes(row)),
    )


def _input_bytes(row: Mapping[str, Any]) -> int:
    """Return the total size of the query, key, value and output gradient, in bytes.

    These four tensors have equal sizes in this study.
    """
    itemsize = 2 if row["dtype"] in ("float16", "bfloat16") else 4
    return int(4 * row["batch"] * row["heads"] * row["seq_q"] * row["head_dim"] * itemsize)


def draw(rows: Rows) -> Figure:
    """Plot the memory per sequence and the largest batch that fits, each against the sequence length."""
    rows = derived(rows, "mib", lambda row: row["sequence_bytes"] / 2**20)
    fitting = [row for row in rows if row["largest_batch"]]
    return lines(
        [
            (Panel("seq_q", "tokens", "mib", "MiB per sequence, training"), rows),
            (Panel("seq_q", "tokens", "largest_batch", "sequences that fit"), fitting),
        ]
    )


def conclude(rows: Rows) -> str:
    """Return a paragraph on how memory use grows with length, and on how many sequences of the longest length fit."""
    parts = []
    for variant, its_rows in sorted(grouped(rows, "variant").items()):
        its_rows.sort(key=lambda row: row["seq_q"])
        first, last = its_rows[0], its_rows[-1]
        growth = ""
        if first is not last:
            before = its_rows[-2]
            power = exponent((before["seq_q"], before["sequence_bytes"]), (last["seq_q"], last["sequence_bytes"]))
            growth = f", growing as the length to the power of {power:.2f}"
        parts.append(
            f"{variant} needs {bytes_text(last['sequence_bytes'])} for one sequence of {size_text(last['seq_q'])} "
            f"tokens{growth}, so {last['largest_batch']:,.0f} such sequences fit"
        )
    return (
        f"Training with a causal mask on {rows[0]['device_name']}, inputs included, {listed(parts)}. The number of "
        "sequences that fit is the device's memory divided by the memory of one sequence, without anything else."
    )


STUDY = Study("memory", "How does memory grow with sequence length?", collect, draw, conclude)
