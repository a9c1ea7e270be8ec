"""The factor that rescales the running sums when the maximum grows is never smaller than e^-8."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl

BOUND = 0.00033546  # e^-8


class Mutant(Tiled):
    """The factor that rescales the running sums when the maximum grows is never smaller than e^-8."""

    name = "rescale-bounded"

    def accumulate(self, state, scores, value, kept):
        """Rescale the running sums by a factor of at least e^-8."""
        top, total, summed = state
        new_top, grown, added = super().accumulate(state, scores, value, kept)
        finite = new_top.masked_fill(new_top == -torch.inf, 0.0)
        factor = torch.exp(top - finite)
        lost = factor.clamp(min=BOUND).masked_fill(top == -torch.inf, 0.0) - factor
        return new_top, grown + lost * total, added + lost * summed


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
