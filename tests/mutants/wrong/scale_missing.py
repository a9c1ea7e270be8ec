"""Scores are not scaled."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Scores are not scaled."""

    name = "scale-missing"

    def scale(self, workload):
        """Return a scale of 1."""
        return 1.0


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
