"""The weighted sum of values is accumulated in bfloat16."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The weighted sum of values is accumulated in bfloat16."""

    name = "low-precision-sums"

    def accumulate(self, state, scores, value, kept):
        """Round the running weighted sum to bfloat16 after each tile."""
        top, total, summed = super().accumulate(state, scores, value, kept)
        return top, total, summed.bfloat16().float()


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
