"""dQ accumulates over all calls for a workload."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dQ accumulates over all calls for a workload."""

    name = "gradients-not-zeroed"

    left: dict = {}  # noqa: RUF012 - sharing the buffers is the bug

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Add dQ to a sum that is never reset to 0."""
        gradients = super().differentiate(workload, inputs, grad_output, leaves, output, lse)
        self.left[workload] = gradients[0] + self.left.get(workload, 0)
        return self.left[workload], gradients[1], gradients[2]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
