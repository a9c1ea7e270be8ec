"""If a single query has more than 1024 keys, those left over after a split into equal parts are ignored."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a single query has more than 1024 keys, those left over after a split into equal parts are ignored."""

    name = "decode-split-floor"

    def visible(self, workload, inputs, rows, columns):
        """Hide the keys that are left over after the split into equal parts."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.seq_q == 1 and workload.seq_k > 1024:
            splits = -(-workload.seq_k // 512)
            seen = seen & (columns < workload.seq_k // splits * splits)
        return seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
