"""Keys that should be hidden are visible, and keys that should be visible are hidden."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Keys that should be hidden are visible, and keys that should be visible are hidden."""

    name = "mask-inverted"

    def visible(self, workload, inputs, rows, columns):
        """Return the inverse of the mask, unless its kind is `none`."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen if workload.mask.kind == "none" else ~seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
