"""The ALiBi slopes repeat after sixteen heads."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The ALiBi slopes repeat after sixteen heads."""

    name = "alibi-of-sixteen-heads"

    def alibi(self, workload, inputs, rows, columns):
        """Reuse the slopes of the first sixteen heads for all later heads."""
        bias = super().alibi(workload, inputs, rows, columns)
        return bias[:, torch.arange(workload.heads, device=self.device) % 16]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
