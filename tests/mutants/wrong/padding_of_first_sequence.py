"""The first sequence's key length is used for all."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The first sequence's key length is used for all."""

    name = "padding-of-first-sequence"

    def visible(self, workload, inputs, rows, columns):
        """Use the first sequence's mask for all."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen[:1]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
