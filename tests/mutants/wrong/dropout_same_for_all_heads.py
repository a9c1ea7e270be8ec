"""All heads drop the same weights."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """All heads drop the same weights."""

    name = "dropout-same-for-all-heads"

    def kept(self, workload, inputs, rows, columns):
        """Draw only for the first head."""
        kept = super().kept(workload, inputs, rows, columns)
        return kept[:1, :1].expand_as(kept) if workload.dropout else kept


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
