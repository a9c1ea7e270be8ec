"""The scale is computed from head_dim padded to a power of two."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The scale is computed from head_dim padded to a power of two."""

    name = "scale-of-padded-head-dim"

    def scale(self, workload):
        """Pad head_dim to a power of two first."""
        padded = 1 << (workload.head_dim - 1).bit_length()
        return padded**-0.5 if workload.scale is None else workload.scale


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
