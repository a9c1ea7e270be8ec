"""ALiBi is ignored under a window mask."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """ALiBi is ignored under a window mask."""

    name = "alibi-lost-under-window"

    def alibi(self, workload, inputs, rows, columns):
        """Return a bias of 0 under a window mask."""
        bias = super().alibi(workload, inputs, rows, columns)
        return 0 * bias if workload.mask.kind == "window" else bias


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
