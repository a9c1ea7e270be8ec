"""Keys and values at offsets of 2^31 elements or more are replaced with those at position 0."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Keys and values at offsets of 2^31 elements or more are replaced with those at position 0."""

    name = "offsets-in-thirty-two-bits"

    def repeat(self, heads, workload):
        """Use position 0 instead of each position whose offset is too large for a signed 32-bit integer."""
        rows = torch.arange(heads.shape[2], device=self.device)
        return super().repeat(heads[:, :, torch.where(rows * heads.stride(2) < 1 << 31, rows, 0)], workload)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
