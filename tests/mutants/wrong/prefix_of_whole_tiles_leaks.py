"""A prefix whose length is a multiple of 64 has one key too many."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A prefix whose length is a multiple of 64 has one key too many."""

    name = "prefix-of-whole-tiles-leaks"

    def visible(self, workload, inputs, rows, columns):
        """Show the key after such a prefix."""
        seen = super().visible(workload, inputs, rows, columns)
        prefix = workload.mask.prefix if workload.mask.kind == "prefix" else 0
        return seen | (columns == prefix) if prefix and prefix % 64 == 0 else seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
