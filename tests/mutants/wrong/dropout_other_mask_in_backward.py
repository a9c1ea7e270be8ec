"""The forward and backward passes use different dropout masks."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The forward and backward passes use different dropout masks."""

    name = "dropout-other-mask-in-backward"

    def backward_kept(self, workload, inputs, rows, columns):
        """Seed the dropout mask with the last row of the tile instead of the first."""
        return self.kept(workload, inputs, rows.flip(0), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
