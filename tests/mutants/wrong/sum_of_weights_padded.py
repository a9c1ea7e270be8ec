"""One millionth is added to the sum of weights."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """One millionth is added to the sum of weights."""

    name = "sum-of-weights-padded"

    def finish(self, state, value):
        """Add a small number to the sum of weights, to avoid a division by 0."""
        output, lse = super().finish(state, value)
        return output * state[1] / (state[1] + 1e-6), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
