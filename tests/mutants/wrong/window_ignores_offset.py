"""A window ignores that the last query is aligned with the last key."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A window ignores that the last query is aligned with the last key."""

    name = "window-ignores-offset"

    def offset(self, workload):
        """Align only windows at the top left."""
        return 0 if workload.mask.kind == "window" else super().offset(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
