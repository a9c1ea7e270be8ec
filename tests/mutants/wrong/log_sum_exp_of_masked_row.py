"""The log-sum-exp of a row without a visible key is 0."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The log-sum-exp of a row without a visible key is 0."""

    name = "log-sum-exp-of-masked-row"

    def prepare_lse(self, workload, inputs):
        """Return a callable that replaces a log-sum-exp of -inf with 0."""
        call = super().prepare_lse(workload, inputs)

        def offer():
            output, lse = call()
            return output, lse.masked_fill(lse.isinf(), 0.0)

        return offer


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
