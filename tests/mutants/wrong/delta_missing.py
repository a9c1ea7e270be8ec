"""The backward pass leaves out delta, the row sums of output * grad_output."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The backward pass leaves out delta, the row sums of output * grad_output."""

    name = "delta-missing"

    def delta(self, grad_output, output):
        """Return zeros."""
        return torch.zeros_like(grad_output[..., :1])


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
