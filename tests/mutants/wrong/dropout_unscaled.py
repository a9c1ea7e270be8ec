"""The weights that dropout keeps are not divided by 1 - p, where p is the dropout rate."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The weights that dropout keeps are not divided by 1 - p, where p is the dropout rate."""

    name = "dropout-unscaled"

    def kept(self, workload, inputs, rows, columns):
        """Return dropout factors of 0 or 1 instead of 0 or 1 / (1 - p), where p is the dropout rate."""
        kept = super().kept(workload, inputs, rows, columns)
        return kept * (1 - workload.dropout) if workload.dropout else kept


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
