"""Dropout drops the same weights in all heads of all sequences."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Dropout drops the same weights in all heads of all sequences."""

    name = "dropout-same-for-all-heads"

    def kept(self, workload, inputs, rows, columns):
        """Use the dropout factors of the first head for all heads of all sequences."""
        kept = super().kept(workload, inputs, rows, columns)
        return kept[:1, :1].expand_as(kept) if workload.dropout else kept


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
