"""Dropout is ignored if there is a single query."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Dropout is ignored if there is a single query."""

    name = "dropout-none-for-single-queries"

    def kept(self, workload, inputs, rows, columns):
        """Drop nothing if there is a single query."""
        return 1.0 if workload.seq_q == 1 else super().kept(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
