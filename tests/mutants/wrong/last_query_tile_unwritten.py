"""The output of the last, partial tile of queries is not written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The output of the last, partial tile of queries is not written."""

    name = "last-query-tile-unwritten"

    def attend(self, workload, inputs, query, key, value):
        """Return an output of 0 for the queries of the last, partial tile."""
        output, lse = super().attend(workload, inputs, query, key, value)
        full = workload.seq_q // self.tile * self.tile
        if full:
            output[:, :, full:] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
