"""The softcap is applied to unscaled scores."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The softcap is applied to unscaled scores."""

    name = "softcap-ignores-scale"

    def cap(self, scores, softcap):
        """Apply the softcap to the unscaled scores, then scale the result."""
        return super().cap(scores / self.factor, softcap) * self.factor

    def scale(self, workload):
        """Record the scale and return it."""
        self.factor = super().scale(workload)
        return self.factor


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
