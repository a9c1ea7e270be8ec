"""Beyond 65535 heads of all sequences together, nothing is written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Beyond 65535 heads of all sequences together, nothing is written."""

    name = "grid-of-sixteen-bits"

    def attend(self, workload, inputs, query, key, value):
        """Leave out what exceeds the size of a grid."""
        output, lse = super().attend(workload, inputs, query, key, value)
        output.flatten(0, 1)[65535:] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
