"""dQ is not scaled."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dQ is not scaled."""

    name = "query-gradient-unscaled"

    def query_gradient(self, of_scores, key, workload):
        """Undo the scale."""
        return of_scores @ key / self.scale(workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
