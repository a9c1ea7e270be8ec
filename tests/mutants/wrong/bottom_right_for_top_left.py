"""The `causal-top-left` mask is aligned to the bottom right."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The `causal-top-left` mask is aligned to the bottom right."""

    name = "bottom-right-for-top-left"

    def offset(self, workload):
        """Align the last query with the last key."""
        return workload.seq_k - workload.seq_q


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
