"""The last 64 of a multiple of 1024 keys are treated as an empty remainder."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The last 64 of a multiple of 1024 keys are treated as an empty remainder."""

    name = "round-length-last-tile-lost"

    def visible(self, workload, inputs, rows, columns):
        """Hide the last tile of a round length."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.seq_k and workload.seq_k % 1024 == 0:
            seen = seen & (columns < workload.seq_k - 64)
        return seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
