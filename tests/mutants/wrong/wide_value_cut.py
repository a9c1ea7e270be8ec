"""If head_dim_v is more than twice head_dim, the columns beyond that are lost."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If head_dim_v is more than twice head_dim, the columns beyond that are lost."""

    name = "wide-value-cut"

    def finish(self, state, value):
        """Set the columns beyond twice head_dim to 0."""
        output, lse = super().finish(state, value)
        output[..., 2 * self.width :] = 0
        return output, lse

    def forward_tile(self, workload, *arguments):
        """Record the width of keys."""
        self.width = workload.head_dim
        return super().forward_tile(workload, *arguments)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
