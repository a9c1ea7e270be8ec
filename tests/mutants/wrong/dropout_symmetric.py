"""Dropout drops weight (i, j) whenever it drops weight (j, i)."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Dropout drops weight (i, j) whenever it drops weight (j, i)."""

    name = "dropout-symmetric"

    def kept(self, workload, inputs, rows, columns):
        """Use the same random number for weights (i, j) and (j, i)."""
        if not workload.dropout:
            return 1.0
        size = max(workload.seq_q, workload.seq_k)
        generator = torch.Generator("cpu").manual_seed(inputs.seed % (1 << 62))
        shape = (workload.batch, workload.heads, size, size)
        drawn = torch.rand(shape, generator=generator, device="cpu").to(self.device)
        drawn = torch.where(torch.ones_like(drawn, dtype=torch.bool).tril(), drawn, drawn.mT)
        return (drawn[:, :, rows][..., columns] >= workload.dropout) / (1 - workload.dropout)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
