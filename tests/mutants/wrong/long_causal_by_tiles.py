"""With more than 4096 keys, causal masks show whole tiles of keys."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With more than 4096 keys, causal masks show whole tiles of keys."""

    name = "long-causal-by-tiles"

    def visible(self, workload, inputs, rows, columns):
        """Show all keys of a tile in long sequences."""
        if workload.mask.kind == "causal" and workload.seq_k > 4096:
            rows = rows // self.tile * self.tile + self.tile - 1
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
