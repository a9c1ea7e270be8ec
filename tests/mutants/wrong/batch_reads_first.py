"""Every sequence reads the keys and values of the first sequence."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Every sequence reads the keys and values of the first sequence."""

    name = "batch-reads-first"

    def repeat(self, heads, workload):
        """Use the key or value heads of the first sequence for all sequences."""
        return super().repeat(heads, workload)[:1].expand(workload.batch, -1, -1, -1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
