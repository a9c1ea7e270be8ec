"""Values wider than keys lose the columns beyond twice the keys' width."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Values wider than keys lose the columns beyond twice the keys' width."""

    name = "wide-value-cut"

    def finish(self, state, value):
        """Drop the last columns."""
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
