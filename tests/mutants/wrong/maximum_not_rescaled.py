"""The weighted sum is not rescaled when the running maximum grows."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The weighted sum is not rescaled when the running maximum grows."""

    name = "maximum-not-rescaled"

    def accumulate(self, state, scores, value, kept):
        """Rescale only the sum of weights."""
        top, total, summed = super().accumulate(state, scores, value, kept)
        finite_top = top.masked_fill(top == -torch.inf, 0.0)
        rescale = torch.exp(state[0] - finite_top)
        return top, total, summed + state[2] * (1 - rescale)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
