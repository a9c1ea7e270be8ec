"""The backward pass draws dropout with the seed of the latest call."""

from __future__ import annotations

import dataclasses

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The backward pass draws dropout with the seed of the latest call."""

    name = "dropout-seed-of-latest-call"

    def attend(self, workload, inputs, *arguments):
        """Store the seed."""
        self.seed = inputs.seed
        return super().attend(workload, inputs, *arguments)

    def backward_kept(self, workload, inputs, rows, columns):
        """Draw with the seed that was stored last."""
        return super().backward_kept(workload, dataclasses.replace(inputs, seed=self.seed), rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
