"""Causal masks let each query see the next key too."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Causal masks let each query see the next key too."""

    name = "causal-leaks-next-key"

    def visible(self, workload, inputs, rows, columns):
        """Return a wrong mask."""
        if workload.mask.kind in ("causal", "causal-top-left"):
            return super().visible(workload, inputs, rows + 1, columns)
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
