"""A rate above one half is taken for the share that is kept."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A rate above one half is taken for the share that is kept."""

    name = "dropout-rate-mirrored"

    def kept(self, workload, inputs, rows, columns):
        """At high rates, drop the weights to keep and keep those to drop."""
        factor = super().kept(workload, inputs, rows, columns)
        return factor if workload.dropout <= 0.5 else 1 / (1 - workload.dropout) - factor


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
