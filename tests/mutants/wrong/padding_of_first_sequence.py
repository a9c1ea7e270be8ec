"""All sequences use the padding or document mask of the first sequence."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """All sequences use the padding or document mask of the first sequence."""

    name = "padding-of-first-sequence"

    def visible(self, workload, inputs, rows, columns):
        """Return the mask of the first sequence, which is then used for all sequences."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen[:1]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
