"""With more than 256 heads over all sequences, dV of the last head is not written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With more than 256 heads over all sequences, dV of the last head is not written."""

    name = "last-head-lost"

    def differentiate(self, workload, *arguments):
        """Leave the last head's dV at 0."""
        gradients = super().differentiate(workload, *arguments)
        if workload.batch * workload.heads > 256:
            gradients[2][-1, -1] = 0
        return gradients


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
