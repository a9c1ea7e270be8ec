"""If both sequence lengths are multiples of 128, the `causal-top-left` mask is aligned to the bottom right."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If both sequence lengths are multiples of 128, the `causal-top-left` mask is aligned to the bottom right."""

    name = "top-left-of-whole-tiles"

    def offset(self, workload):
        """Use the bottom-right offset if both sequence lengths are multiples of 128."""
        whole = workload.seq_q % 128 == 0 and workload.seq_k % 128 == 0
        return workload.seq_k - workload.seq_q if whole else super().offset(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
