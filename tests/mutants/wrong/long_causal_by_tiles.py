"""If a causal mask has more than 4096 keys, all queries of a tile use the mask of the tile's last query."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a causal mask has more than 4096 keys, all queries of a tile use the mask of the tile's last query."""

    name = "long-causal-by-tiles"

    def visible(self, workload, inputs, rows, columns):
        """If a causal mask has more than 4096 keys, return the mask of the tile's last query for all rows."""
        if workload.mask.kind == "causal" and workload.seq_k > 4096:
            rows = rows // self.tile * self.tile + self.tile - 1
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
