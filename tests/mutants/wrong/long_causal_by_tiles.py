"""Under a causal mask with more than 4096 keys, each query sees all keys that the last query of its tile sees."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under a causal mask with more than 4096 keys, each query sees all keys that the last query of its tile sees."""

    name = "long-causal-by-tiles"

    def visible(self, workload, inputs, rows, columns):
        """If the sequence is long, use the mask of a tile's last query for all queries of the tile."""
        if workload.mask.kind == "causal" and workload.seq_k > 4096:
            rows = rows // self.tile * self.tile + self.tile - 1
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
