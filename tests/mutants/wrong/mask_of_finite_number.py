"""The scores of hidden keys are set to -10000 instead of -inf."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The scores of hidden keys are set to -10000 instead of -inf."""

    name = "mask-of-finite-number"

    def scores(self, workload, inputs, query, key, rows, columns):
        """In rows with a visible key, set the scores of hidden keys to -10000, which real scores can reach."""
        scores = super().scores(workload, inputs, query, key, rows, columns)
        columns = torch.arange(workload.seq_k, device=self.device)
        sees = self.visible(workload, inputs, rows, columns).any(-1, keepdim=True)
        return torch.where(sees & (scores == -torch.inf), -10000.0, scores)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
