"""A dropout rate above 0.5 is used as the probability of keeping a weight."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A dropout rate above 0.5 is used as the probability of keeping a weight."""

    name = "dropout-rate-mirrored"

    def kept(self, workload, inputs, rows, columns):
        """If the rate is above 0.5, drop the weights that should be kept, and keep those that should be dropped."""
        factor = super().kept(workload, inputs, rows, columns)
        return factor if workload.dropout <= 0.5 else 1 / (1 - workload.dropout) - factor


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
