"""Query heads of a group share one of ALiBi's slopes."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Query heads of a group share one of ALiBi's slopes."""

    name = "alibi-of-key-heads"

    def alibi(self, workload, inputs, rows, columns):
        """Use the slope of a group's first head."""
        bias = super().alibi(workload, inputs, rows, columns)
        group = workload.heads // workload.kv_heads
        return bias[:, ::group].repeat_interleave(group, 1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
