"""The backward pass leaves out the derivative of the softcap."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The backward pass leaves out the derivative of the softcap."""

    name = "softcap-derivative-missing"

    def cap_slope(self, scores, softcap):
        """Return 1 as the derivative for every score."""
        return torch.ones_like(scores)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
