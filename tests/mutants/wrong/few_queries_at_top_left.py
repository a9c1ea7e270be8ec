"""Two to eight queries are aligned with the first keys."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Two to eight queries are aligned with the first keys."""

    name = "few-queries-at-top-left"

    def offset(self, workload):
        """Ignore the offset in the path for a few queries."""
        return 0 if 2 <= workload.seq_q <= 8 else super().offset(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
