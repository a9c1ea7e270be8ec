"""For a single query, the window is ignored if the batch has more than 64 key heads in total."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For a single query, the window is ignored if the batch has more than 64 key heads in total."""

    name = "busy-decode-ignores-window"

    def visible(self, workload, inputs, rows, columns):
        """Ignore the window if there is a single query and the batch has more than 64 key heads in total."""
        seen = super().visible(workload, inputs, rows, columns)
        busy = workload.seq_q == 1 and workload.batch * workload.kv_heads > 64
        return torch.ones_like(seen) if busy and workload.mask.kind == "window" else seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
