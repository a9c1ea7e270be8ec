"""With dropout, delta is computed from an output without dropout."""

from __future__ import annotations

from dataclasses import replace

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With dropout, delta is computed from an output without dropout."""

    name = "delta-without-dropout"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Recompute the output without dropout, and use it in the backward pass."""
        if workload.dropout:
            output, _ = self.attend(replace(workload, dropout=0.0), inputs, *leaves)
        return super().differentiate(workload, inputs, grad_output, leaves, output, lse)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
