"""Queries beyond 32767 get the mask of others."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Queries beyond 32767 get the mask of others."""

    name = "queries-in-sixteen-bits"

    def visible(self, workload, inputs, rows, columns):
        """Lose the upper bits of a row's place."""
        return super().visible(workload, inputs, rows % (1 << 15), columns)


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
