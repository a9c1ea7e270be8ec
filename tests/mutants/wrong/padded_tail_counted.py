"""The sum of weights counts the padding of the last tile of keys as keys with a score of 0."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The sum of weights counts the padding of the last tile of keys as keys with a score of 0."""

    name = "padded-tail-counted"

    def forward_tile(self, workload, inputs, query, key, value, rows):
        """Add the weights of the padding to the sum."""
        state = self.start(query, value)
        for columns in self.tiles(workload.seq_k):
            scores = self.scores(workload, inputs, query, key[:, :, columns], rows, columns)
            kept = self.kept(workload, inputs, rows, columns)
            state = self.accumulate(state, scores, value[:, :, columns], kept)
        top, total, summed = state
        padding = -workload.seq_k % self.tile
        finite_top = top.masked_fill(top == -torch.inf, 0.0)
        total = torch.where(total > 0, total + padding * torch.exp(-finite_top), total)
        return self.finish((top, total, summed), value)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
