"""In the `backward` direction, the backward pass leaves out delta."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """In the `backward` direction, the backward pass leaves out delta."""

    name = "backward-alone-lacks-delta"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Use a delta of 0 in the `backward` direction."""
        output = 0 * output if workload.direction == "backward" else output
        return super().differentiate(workload, inputs, grad_output, leaves, output, lse)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
