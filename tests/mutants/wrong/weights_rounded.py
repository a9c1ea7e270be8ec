"""Weights are rounded to bfloat16, even if the inputs are float32."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Weights are rounded to bfloat16, even if the inputs are float32."""

    name = "weights-rounded"

    def accumulate(self, state, scores, value, kept):
        """Round the weights to bfloat16 before they are multiplied by the values."""
        top, total, summed = super().accumulate(state, scores, value, kept)
        exact = torch.exp(scores - top.masked_fill(top == -torch.inf, 0.0))
        return top, total, summed + ((exact.bfloat16().float() - exact) * kept) @ value


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
