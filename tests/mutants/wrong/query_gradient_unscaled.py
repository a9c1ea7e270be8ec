"""dQ is not multiplied by the scale."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dQ is not multiplied by the scale."""

    name = "query-gradient-unscaled"

    def query_gradient(self, of_scores, key, workload):
        """Divide the contribution to dQ by the scale, so that the scale cancels out."""
        return of_scores @ key / self.scale(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
