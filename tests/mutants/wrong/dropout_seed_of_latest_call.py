"""Backward draws dropout with the seed of the call that came last."""

from __future__ import annotations

import dataclasses

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Backward draws dropout with the seed of the call that came last."""

    name = "dropout-seed-of-latest-call"

    def attend(self, workload, inputs, *arguments):
        """Remember the seed."""
        self.seed = inputs.seed
        return super().attend(workload, inputs, *arguments)

    def backward_kept(self, workload, inputs, rows, columns):
        """Draw with the seed that was remembered."""
        return super().backward_kept(workload, dataclasses.replace(inputs, seed=self.seed), rows, columns)


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
