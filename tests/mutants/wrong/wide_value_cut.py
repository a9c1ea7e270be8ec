"""All output columns after the first 2 * head_dim are set to 0."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """All output columns after the first 2 * head_dim are set to 0."""

    name = "wide-value-cut"

    def finish(self, state, value):
        """Set all output columns after the first 2 * head_dim to 0."""
        output, lse = super().finish(state, value)
        output[..., 2 * self.width :] = 0
        return output, lse

    def forward_tile(self, workload, *arguments):
        """Record head_dim, then compute the tile."""
        self.width = workload.head_dim
        return super().forward_tile(workload, *arguments)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
