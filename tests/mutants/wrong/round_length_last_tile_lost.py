"""Of a multiple of 1024 keys the last 64 are taken for an empty rest."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Of a multiple of 1024 keys the last 64 are taken for an empty rest."""

    name = "round-length-last-tile-lost"

    def visible(self, workload, inputs, rows, columns):
        """Hide the last tile of a round length."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.seq_k and workload.seq_k % 1024 == 0:
            seen = seen & (columns < workload.seq_k - 64)
        return seen


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
