"""The maximum is not subtracted from the scores before exponentiation."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The maximum is not subtracted from the scores before exponentiation."""

    name = "no-maximum-subtracted"

    def accumulate(self, state, scores, value, kept):
        """Compute the exponentials without subtracting the maximum."""
        _, total, summed = state
        weights = torch.exp(scores)
        total = total + weights.sum(-1, keepdim=True)
        return torch.zeros_like(total), total, summed + (weights * kept) @ value


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
