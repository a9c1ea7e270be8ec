"""Offsets of rows beyond 2^31 elements are cut to 32 bits."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Offsets of rows beyond 2^31 elements are cut to 32 bits."""

    name = "offsets-in-thirty-two-bits"

    def repeat(self, heads, workload):
        """Drop the upper bits of each row's offset."""
        rows = torch.arange(heads.shape[2])
        return super().repeat(heads[:, :, torch.where(rows * heads.stride(2) < 1 << 31, rows, 0)], workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
