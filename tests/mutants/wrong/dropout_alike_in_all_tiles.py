"""Every tile drops the same weights."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Every tile drops the same weights."""

    name = "dropout-alike-in-all-tiles"

    def kept(self, workload, inputs, rows, columns):
        """Draw each tile from the same seed."""
        return super().kept(workload, inputs, 0 * rows, 0 * columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
