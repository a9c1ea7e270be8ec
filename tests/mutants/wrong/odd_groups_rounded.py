"""The number of query heads per group is rounded up to a power of two."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The number of query heads per group is rounded up to a power of two."""

    name = "odd-groups-rounded"

    def repeat(self, heads, workload):
        """Repeat the heads as if the group size were rounded up to a power of two."""
        group = workload.heads // workload.kv_heads
        rounded = 1 << (group - 1).bit_length()
        index = torch.arange(workload.heads, device=self.device) // rounded
        return heads.float()[:, index.clamp(max=workload.kv_heads - 1)]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
