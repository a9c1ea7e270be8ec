"""The first key of each tile is hidden, except in the first tile."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The first key of each tile is hidden, except in the first tile."""

    name = "side-tile-first-key-lost"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Hide the first key of every tile except the first tile."""
        scores = super().scores(workload, inputs, query, key, rows, columns)
        return scores.masked_fill((columns % self.tile == 0) & (columns > 0), -torch.inf)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
