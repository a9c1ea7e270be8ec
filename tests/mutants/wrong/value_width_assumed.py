"""Values are assumed to be as wide as keys."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Values are assumed to be as wide as keys."""

    name = "value-width-assumed"

    def attend(self, workload, inputs, query, key, value):
        """Write as many columns as keys have, and zeros elsewhere."""
        output, lse = super().attend(workload, inputs, query, key, value)
        output[..., workload.head_dim :] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
