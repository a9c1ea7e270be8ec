"""dQ is added to the dQ of the previous call."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dQ is added to the dQ of the previous call."""

    name = "gradients-not-zeroed"

    left: dict = {}  # noqa: RUF012 - sharing the buffers is the bug

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Add dQ to a buffer that is never set to 0."""
        gradients = super().differentiate(workload, inputs, grad_output, leaves, output, lse)
        self.left[workload] = gradients[0] + self.left.get(workload, 0)
        return self.left[workload], gradients[1], gradients[2]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
