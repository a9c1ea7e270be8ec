"""A window is aligned to the top left instead of the bottom right."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A window is aligned to the top left instead of the bottom right."""

    name = "window-ignores-offset"

    def offset(self, workload):
        """Return an offset of 0 for window masks."""
        return 0 if workload.mask.kind == "window" else super().offset(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
