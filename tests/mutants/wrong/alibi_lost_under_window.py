"""ALiBi is left out under a window."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """ALiBi is left out under a window."""

    name = "alibi-lost-under-window"

    def alibi(self, workload, inputs, rows, columns):
        """Return no bias under a window."""
        bias = super().alibi(workload, inputs, rows, columns)
        return 0 * bias if workload.mask.kind == "window" else bias


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
