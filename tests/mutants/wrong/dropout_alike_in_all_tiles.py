"""Dropout drops the same weights in every tile."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Dropout drops the same weights in every tile."""

    name = "dropout-alike-in-all-tiles"

    def kept(self, workload, inputs, rows, columns):
        """Use the same seed for every tile."""
        return super().kept(workload, inputs, 0 * rows, 0 * columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
