"""The last, partial tile of queries is left out of dK."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The last, partial tile of queries is left out of dK."""

    name = "last-queries-missing-in-key-gradient"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Compute dK with a grad_output of 0 in the last, partial tile of queries."""
        gradients = super().differentiate(workload, inputs, grad_output, leaves, output, lse)
        start = workload.seq_q // self.tile * self.tile
        if start in (0, workload.seq_q):
            return gradients
        without = grad_output.clone()
        without[:, :, start:] = 0
        return gradients[0], super().differentiate(workload, inputs, without, leaves, output, lse)[1], gradients[2]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
