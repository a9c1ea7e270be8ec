"""The first key of every tile except the first is skipped."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The first key of every tile except the first is skipped."""

    name = "side-tile-first-key-lost"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Hide the first key of a later tile."""
        scores = super().scores(workload, inputs, query, key, rows, columns)
        return scores.masked_fill((columns % self.tile == 0) & (columns > 0), -torch.inf)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
