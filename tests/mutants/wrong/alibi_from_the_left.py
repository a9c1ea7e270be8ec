"""ALiBi's bias grows with the key's position instead of falling with distance."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """ALiBi's bias grows with the key's position instead of falling with distance."""

    name = "alibi-from-the-left"

    def alibi(self, workload, inputs, rows, columns):
        """Leave out the query's position, which makes a difference unless the mask is causal."""
        return inputs.alibi_slopes[None, :, None, None] * columns


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
