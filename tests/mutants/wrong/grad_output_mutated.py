"""The backward pass scales grad_output in place."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The backward pass scales grad_output in place."""

    name = "grad-output-mutated"

    def grad_output_of(self, grad_output):
        """Scale the caller's tensor in place."""
        return grad_output.mul_(2).float() / 2


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
