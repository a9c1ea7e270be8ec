"""The derivative of the softcap is evaluated at the capped score."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The derivative of the softcap is evaluated at the capped score."""

    name = "softcap-slope-of-capped"

    def cap_slope(self, scores, softcap):
        """Apply the softcap to the scores before computing its derivative."""
        return super().cap_slope(self.cap(scores, softcap), softcap)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
