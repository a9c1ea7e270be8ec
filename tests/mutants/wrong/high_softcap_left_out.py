"""A softcap above 32 is taken for none."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A softcap above 32 is taken for none."""

    name = "high-softcap-left-out"

    def cap(self, scores, softcap):
        """Cap at low caps alone."""
        return scores if softcap > 32 else super().cap(scores, softcap)

    def cap_slope(self, scores, softcap):
        """Give the slope of no cap where there is none."""
        return torch.ones_like(scores) if softcap > 32 else super().cap_slope(scores, softcap)


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
