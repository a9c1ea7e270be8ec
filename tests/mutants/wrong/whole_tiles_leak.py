"""If the length is a multiple of 128, each query sees one key too many."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If the length is a multiple of 128, each query sees one key too many."""

    name = "whole-tiles-leak"

    def visible(self, workload, inputs, rows, columns):
        """Move the diagonal by one key if no tile is partial."""
        moved = workload.mask.kind == "causal" and workload.seq_q % 128 == 0
        return super().visible(workload, inputs, rows + int(moved), columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
