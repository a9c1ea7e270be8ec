"""Under a causal mask, each query also attends to the key after its last visible key."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under a causal mask, each query also attends to the key after its last visible key."""

    name = "causal-leaks-next-key"

    def visible(self, workload, inputs, rows, columns):
        """Make one more key visible to each query than a causal mask allows."""
        if workload.mask.kind in ("causal", "causal-top-left"):
            return super().visible(workload, inputs, rows + 1, columns)
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
