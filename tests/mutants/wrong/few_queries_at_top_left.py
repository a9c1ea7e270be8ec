"""With two to eight queries, masks are aligned to the top left."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With two to eight queries, masks are aligned to the top left."""

    name = "few-queries-at-top-left"

    def offset(self, workload):
        """Return an offset of 0 for two to eight queries."""
        return 0 if 2 <= workload.seq_q <= 8 else super().offset(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
