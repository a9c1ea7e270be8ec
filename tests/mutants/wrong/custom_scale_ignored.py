"""A workload's custom scale is ignored."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A workload's custom scale is ignored."""

    name = "custom-scale-ignored"

    def scale(self, workload):
        """Return 1/sqrt(head_dim) for every workload."""
        return workload.head_dim**-0.5


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
