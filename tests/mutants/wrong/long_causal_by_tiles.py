"""Beyond 4096 keys a causal mask is rounded to whole tiles."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Beyond 4096 keys a causal mask is rounded to whole tiles."""

    name = "long-causal-by-tiles"

    def visible(self, workload, inputs, rows, columns):
        """Show whole tiles in long sequences."""
        if workload.mask.kind == "causal" and workload.seq_k > 4096:
            rows = rows // self.tile * self.tile + self.tile - 1
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
