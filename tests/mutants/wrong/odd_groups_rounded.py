"""Groups of three query heads are treated as groups of four."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Groups of three query heads are treated as groups of four."""

    name = "odd-groups-rounded"

    def repeat(self, heads, workload):
        """Round the group's size up to a power of two."""
        group = workload.heads // workload.kv_heads
        rounded = 1 << (group - 1).bit_length()
        index = torch.arange(workload.heads) // rounded
        return heads.float()[:, index.clamp(max=workload.kv_heads - 1)]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
