"""The ALiBi distance ignores the bottom-right alignment."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The ALiBi distance ignores the bottom-right alignment."""

    name = "alibi-offset"

    def alibi(self, workload, inputs, rows, columns):
        """Use |i - j| as the distance between query i and key j."""
        return super().alibi(workload, inputs, rows - (workload.seq_k - workload.seq_q), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
