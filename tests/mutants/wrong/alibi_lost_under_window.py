"""ALiBi is ignored if the mask is a window."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """ALiBi is ignored if the mask is a window."""

    name = "alibi-lost-under-window"

    def alibi(self, workload, inputs, rows, columns):
        """Return a bias of 0 under a window mask."""
        bias = super().alibi(workload, inputs, rows, columns)
        return 0 * bias if workload.mask.kind == "window" else bias


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
