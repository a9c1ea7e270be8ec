"""The ALiBi bias grows with distance."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The ALiBi bias grows with distance."""

    name = "alibi-sign"

    def alibi(self, workload, inputs, rows, columns):
        """Return the bias with the wrong sign."""
        return -super().alibi(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
