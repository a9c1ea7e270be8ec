"""A softcap above 32 is ignored."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A softcap above 32 is ignored."""

    name = "high-softcap-left-out"

    def cap(self, scores, softcap):
        """Apply the softcap only if it is at most 32."""
        return scores if softcap > 32 else super().cap(scores, softcap)

    def cap_slope(self, scores, softcap):
        """Return 1 if the softcap is ignored, and the correct derivative otherwise."""
        return torch.ones_like(scores) if softcap > 32 else super().cap_slope(scores, softcap)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
