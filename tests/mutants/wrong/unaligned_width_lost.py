"""dQ is written four columns at a time, and the remaining columns of a head wider than 32 are lost."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dQ is written four columns at a time, and the remaining columns of a head wider than 32 are lost."""

    name = "unaligned-width-lost"

    def query_gradient(self, of_scores, key, workload):
        """Write only whole groups of four columns."""
        part = super().query_gradient(of_scores, key, workload)
        if workload.head_dim > 32:
            part[..., workload.head_dim // 4 * 4 :] = 0
        return part


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
