"""Every sequence reads the keys of the first one."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Every sequence reads the keys of the first one."""

    name = "batch-reads-first"

    def repeat(self, heads, workload):
        """Use the first sequence's heads."""
        return super().repeat(heads, workload)[:1].expand(workload.batch, -1, -1, -1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
