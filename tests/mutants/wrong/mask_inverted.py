"""Hidden keys are seen and visible ones hidden."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Hidden keys are seen and visible ones hidden."""

    name = "mask-inverted"

    def visible(self, workload, inputs, rows, columns):
        """Return a wrong mask."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen if workload.mask.kind == "none" else ~seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
