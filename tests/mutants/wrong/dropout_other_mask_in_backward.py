"""The backward pass draws a different dropout mask."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The backward pass draws a different dropout mask."""

    name = "dropout-other-mask-in-backward"

    def backward_kept(self, workload, inputs, rows, columns):
        """Draw the dropout mask of other rows."""
        return self.kept(workload, inputs, rows.flip(0), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
