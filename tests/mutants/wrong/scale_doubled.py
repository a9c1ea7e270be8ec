"""The scale is applied twice."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The scale is applied twice."""

    name = "scale-doubled"

    def scale(self, workload):
        """Return the square of the scale."""
        return workload.effective_scale**2


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
