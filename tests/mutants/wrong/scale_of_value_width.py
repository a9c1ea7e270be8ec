"""The scale is taken from the width of values."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The scale is taken from the width of values."""

    name = "scale-of-value-width"

    def scale(self, workload):
        """Read the wrong width."""
        return workload.head_dim_v**-0.5 if workload.scale is None else workload.scale


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
