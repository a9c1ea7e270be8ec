"""`prepare_lse` returns the log-sum-exp in base 2."""

from __future__ import annotations

import math

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """`prepare_lse` returns the log-sum-exp in base 2."""

    name = "log-sum-exp-base-two"

    def prepare_lse(self, workload, inputs):
        """Return a callable that converts the log-sum-exp to base 2."""
        correct = super().prepare_lse(workload, inputs)

        def call():
            output, lse = correct()
            return output, lse / math.log(2)

        return call


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
