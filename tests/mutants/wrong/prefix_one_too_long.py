"""A prefix includes one key too many."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A prefix includes one key too many."""

    name = "prefix-one-too-long"

    def visible(self, workload, inputs, rows, columns):
        """Make the key after the prefix visible to every query."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen | (columns == workload.mask.prefix) if workload.mask.kind == "prefix" else seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
