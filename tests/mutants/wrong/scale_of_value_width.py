"""The default scale is computed from head_dim_v instead of head_dim."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The default scale is computed from head_dim_v instead of head_dim."""

    name = "scale-of-value-width"

    def scale(self, workload):
        """Compute the default scale from head_dim_v."""
        return workload.head_dim_v**-0.5 if workload.scale is None else workload.scale


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
