"""If the left side of a window covers all keys, the whole window is ignored, including its right end."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If the left side of a window covers all keys, the whole window is ignored, including its right end."""

    name = "window-covers-all"

    def visible(self, workload, inputs, rows, columns):
        """Make every key visible if the left side of the window covers all keys."""
        if workload.mask.kind == "window" and workload.mask.left >= workload.seq_k - 1:
            return torch.ones(1, 1, len(rows), len(columns), dtype=torch.bool, device=self.device)
        return super().visible(workload, inputs, rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
