"""A backward pass uses the dropout seed of the latest forward pass, even if that pass belongs to another call."""

from __future__ import annotations

import dataclasses

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A backward pass uses the dropout seed of the latest forward pass, even if that pass belongs to another call."""

    name = "dropout-seed-of-latest-call"

    def attend(self, workload, inputs, *arguments):
        """Store the seed, then compute attention."""
        self.seed = inputs.seed
        return super().attend(workload, inputs, *arguments)

    def backward_kept(self, workload, inputs, rows, columns):
        """Return the dropout factors for the seed that was stored last."""
        return super().backward_kept(workload, dataclasses.replace(inputs, seed=self.seed), rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
