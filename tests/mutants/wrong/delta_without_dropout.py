"""Under dropout the backward pass leaves the dropped weights out of dP only."""

from __future__ import annotations

from dataclasses import replace

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under dropout the backward pass leaves the dropped weights out of dP only."""

    name = "delta-without-dropout"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Compute delta from an output without dropout."""
        if workload.dropout:
            output, _ = self.attend(replace(workload, dropout=0.0), inputs, *leaves)
        return super().differentiate(workload, inputs, grad_output, leaves, output, lse)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
