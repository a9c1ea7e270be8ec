"""The last, partial tile of keys is left out."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The last, partial tile of keys is left out."""

    name = "last-key-tile-dropped"

    def attend(self, workload, inputs, query, key, value):
        """Record the number of keys in full tiles, then compute attention."""
        self.keys = max(self.tile, workload.seq_k // self.tile * self.tile)
        return super().attend(workload, inputs, query, key, value)

    def scores(self, workload, inputs, query, key, rows, columns):
        """Hide the keys of the last, partial tile."""
        scores = super().scores(workload, inputs, query, key, rows, columns)
        return scores.masked_fill(columns >= self.keys, -torch.inf)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
