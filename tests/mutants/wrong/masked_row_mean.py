"""The output of a row without a visible key is the mean of all values."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The output of a row without a visible key is the mean of all values."""

    name = "masked-row-mean"

    def attend(self, workload, inputs, query, key, value):
        """Return the mean of all values for rows without a visible key."""
        output, lse = super().attend(workload, inputs, query, key, value)
        blind = lse == -torch.inf
        return torch.where(blind, value.mean(2, keepdim=True), output), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
