"""A seed of 0 turns dropout off."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A seed of 0 turns dropout off."""

    name = "dropout-none-for-seed-zero"

    def kept(self, workload, inputs, rows, columns):
        """Drop nothing if the seed is 0."""
        return super().kept(workload, inputs, rows, columns) if inputs.seed else 1.0


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
