"""Each query beyond position 32767 uses the mask of the query 32768 positions earlier."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Each query beyond position 32767 uses the mask of the query 32768 positions earlier."""

    name = "queries-in-sixteen-bits"

    def visible(self, workload, inputs, rows, columns):
        """Use the position of each row modulo 32768."""
        return super().visible(workload, inputs, rows % (1 << 15), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
