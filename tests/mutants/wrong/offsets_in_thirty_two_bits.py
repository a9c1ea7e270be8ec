"""Rows that lie beyond 2^31 elements of their storage are read where 32 bits point to."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Rows that lie beyond 2^31 elements of their storage are read where 32 bits point to."""

    name = "offsets-in-thirty-two-bits"

    def repeat(self, heads, workload):
        """Lose an offset's upper bits."""
        rows = torch.arange(heads.shape[2])
        return super().repeat(heads[:, :, torch.where(rows * heads.stride(2) < 1 << 31, rows, 0)], workload)


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
