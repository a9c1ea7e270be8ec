"""For a single query with more than 1024 keys, the keys left over after a split into equal parts are ignored."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For a single query with more than 1024 keys, the keys left over after a split into equal parts are ignored."""

    name = "decode-split-floor"

    def visible(self, workload, inputs, rows, columns):
        """Hide the keys left over after a split into ceil(seq_k / 512) equal parts."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.seq_q == 1 and workload.seq_k > 1024:
            splits = -(-workload.seq_k // 512)
            seen = seen & (columns < workload.seq_k // splits * splits)
        return seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
