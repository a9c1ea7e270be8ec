"""A dropout rate above one half is used as the share of weights to keep."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A dropout rate above one half is used as the share of weights to keep."""

    name = "dropout-rate-mirrored"

    def kept(self, workload, inputs, rows, columns):
        """At high rates, keep the weights to drop, and drop the others."""
        factor = super().kept(workload, inputs, rows, columns)
        return factor if workload.dropout <= 0.5 else 1 / (1 - workload.dropout) - factor


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
