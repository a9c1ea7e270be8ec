"""If the number of keys is a multiple of 1024, the last 64 keys are hidden."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If the number of keys is a multiple of 1024, the last 64 keys are hidden."""

    name = "round-length-last-tile-lost"

    def visible(self, workload, inputs, rows, columns):
        """Hide the last 64 keys if the number of keys is a multiple of 1024."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.seq_k and workload.seq_k % 1024 == 0:
            seen = seen & (columns < workload.seq_k - 64)
        return seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
