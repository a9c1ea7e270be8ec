"""Under a causal mask, each query attends to one key too many if the number of queries is a multiple of 128."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under a causal mask, each query attends to one key too many if the number of queries is a multiple of 128."""

    name = "whole-tiles-leak"

    def visible(self, workload, inputs, rows, columns):
        """Move the causal diagonal one key to the right if the number of queries is a multiple of 128."""
        moved = workload.mask.kind == "causal" and workload.seq_q % 128 == 0
        return super().visible(workload, inputs, rows + int(moved), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
