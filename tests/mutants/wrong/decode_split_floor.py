"""With more than 1024 keys, a single query splits them into equal parts and loses the remainder."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With more than 1024 keys, a single query splits them into equal parts and loses the remainder."""

    name = "decode-split-floor"

    def visible(self, workload, inputs, rows, columns):
        """Hide the keys in the remainder."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.seq_q == 1 and workload.seq_k > 1024:
            splits = -(-workload.seq_k // 512)
            seen = seen & (columns < workload.seq_k // splits * splits)
        return seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
