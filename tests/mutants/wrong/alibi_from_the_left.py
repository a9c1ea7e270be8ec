"""ALiBi's bias grows with the key's position instead of falling with distance."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """ALiBi's bias grows with the key's position instead of falling with distance."""

    name = "alibi-from-the-left"

    def alibi(self, workload, inputs, rows, columns):
        """Compute the bias from the key's position alone. Under a causal mask, the output is still correct."""
        return inputs.alibi_slopes[None, :, None, None] * columns


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
