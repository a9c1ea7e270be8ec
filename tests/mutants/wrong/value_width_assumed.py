"""head_dim_v is assumed to equal head_dim."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """head_dim_v is assumed to equal head_dim."""

    name = "value-width-assumed"

    def attend(self, workload, inputs, query, key, value):
        """Set all output columns after the first head_dim to 0."""
        output, lse = super().attend(workload, inputs, query, key, value)
        output[..., workload.head_dim :] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
