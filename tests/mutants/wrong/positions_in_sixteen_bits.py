"""Keys beyond position 32767 are hidden."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Keys beyond position 32767 are hidden."""

    name = "positions-in-sixteen-bits"

    def visible(self, workload, inputs, rows, columns):
        """Hide keys whose position is too large for a signed 16-bit integer."""
        return super().visible(workload, inputs, rows, columns) & (columns < 1 << 15)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
