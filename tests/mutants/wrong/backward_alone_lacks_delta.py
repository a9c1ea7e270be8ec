"""In the direction backward, delta is left out."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """In the direction backward, delta is left out."""

    name = "backward-alone-lacks-delta"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Leave out delta in one direction."""
        output = 0 * output if workload.direction == "backward" else output
        return super().differentiate(workload, inputs, grad_output, leaves, output, lse)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
