"""If a batch has more than 256 heads in total, the last head's dV is not written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a batch has more than 256 heads in total, the last head's dV is not written."""

    name = "last-head-lost"

    def differentiate(self, workload, *arguments):
        """Set the last head's dV to 0 if the batch has more than 256 heads in total."""
        gradients = super().differentiate(workload, *arguments)
        if workload.batch * workload.heads > 256:
            gradients[2][-1, -1] = 0
        return gradients


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
