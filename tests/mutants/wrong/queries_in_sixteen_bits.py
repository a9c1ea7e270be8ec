"""Queries beyond position 32767 use the mask of other queries."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Queries beyond position 32767 use the mask of other queries."""

    name = "queries-in-sixteen-bits"

    def visible(self, workload, inputs, rows, columns):
        """Drop the upper bits of a row's position."""
        return super().visible(workload, inputs, rows % (1 << 15), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
