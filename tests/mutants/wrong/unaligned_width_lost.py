"""If head_dim is above 32, the columns of dQ after the last whole group of four are not written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If head_dim is above 32, the columns of dQ after the last whole group of four are not written."""

    name = "unaligned-width-lost"

    def query_gradient(self, of_scores, key, workload):
        """If head_dim is above 32, set the columns after the last whole group of four to 0."""
        part = super().query_gradient(of_scores, key, workload)
        if workload.head_dim > 32:
            part[..., workload.head_dim // 4 * 4 :] = 0
        return part


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
