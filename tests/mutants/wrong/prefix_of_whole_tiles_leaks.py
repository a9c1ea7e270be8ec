"""A prefix includes one key too many if its length is a multiple of 64."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A prefix includes one key too many if its length is a multiple of 64."""

    name = "prefix-of-whole-tiles-leaks"

    def visible(self, workload, inputs, rows, columns):
        """Make the key after the prefix visible if the prefix length is a multiple of 64."""
        seen = super().visible(workload, inputs, rows, columns)
        prefix = workload.mask.prefix if workload.mask.kind == "prefix" else 0
        return seen | (columns == prefix) if prefix and prefix % 64 == 0 else seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
