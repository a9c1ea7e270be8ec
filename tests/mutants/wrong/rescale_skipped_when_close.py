"""The weighted sum is not rescaled if the maximum grows by less than 1."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The weighted sum is not rescaled if the maximum grows by less than 1."""

    name = "rescale-skipped-when-close"

    def accumulate(self, state, scores, value, kept):
        """Rescale the sum of weights each time, but the weighted sum only if the maximum grows by 1 or more."""
        top, total, summed = super().accumulate(state, scores, value, kept)
        finite_top = top.masked_fill(top == -torch.inf, 0.0)
        grown = torch.exp(state[0] - finite_top)
        skipped = (grown > torch.e**-1) & (grown < 1)
        return top, total, summed + torch.where(skipped, state[2] * (1 - grown), 0.0)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
