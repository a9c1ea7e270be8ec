"""ALiBi's distance is counted from the top left."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """ALiBi's distance is counted from the top left."""

    name = "alibi-offset"

    def alibi(self, workload, inputs, rows, columns):
        """Use the distance between query i and key j without the offset."""
        return super().alibi(workload, inputs, rows - (workload.seq_k - workload.seq_q), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
