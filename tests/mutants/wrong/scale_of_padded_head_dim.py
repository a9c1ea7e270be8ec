"""The default scale is computed from head_dim rounded up to a power of two."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The default scale is computed from head_dim rounded up to a power of two."""

    name = "scale-of-padded-head-dim"

    def scale(self, workload):
        """Round head_dim up to a power of two before computing the default scale."""
        padded = 1 << (workload.head_dim - 1).bit_length()
        return padded**-0.5 if workload.scale is None else workload.scale


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
