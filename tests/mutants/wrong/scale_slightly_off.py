"""The scale is 0.2% too large."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The scale is 0.2% too large."""

    name = "scale-slightly-off"

    def scale(self, workload):
        """Return the scale multiplied by 1.002."""
        return 1.002 * workload.effective_scale


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
