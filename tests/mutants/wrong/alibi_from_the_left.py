"""The ALiBi bias grows with the key position instead of falling with distance."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The ALiBi bias grows with the key position instead of falling with distance."""

    name = "alibi-from-the-left"

    def alibi(self, workload, inputs, rows, columns):
        """Compute the bias from the key position alone.

        Under a causal mask, the output is still correct, because each row's bias is off by a constant.
        """
        return inputs.alibi_slopes[None, :, None, None] * columns


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
