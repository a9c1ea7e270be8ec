"""Causal masks hide the diagonal."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Causal masks hide the diagonal."""

    name = "diagonal-excluded"

    def visible(self, workload, inputs, rows, columns):
        """Hide each row's diagonal key if the mask is causal."""
        if workload.mask.kind in ("causal", "causal-top-left"):
            return super().visible(workload, inputs, rows - 1, columns)
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
