"""If a batch has more than 64 key heads, the window of a single query is ignored."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a batch has more than 64 key heads, the window of a single query is ignored."""

    name = "busy-decode-ignores-window"

    def visible(self, workload, inputs, rows, columns):
        """Ignore the window of a single query if the batch has many key heads."""
        seen = super().visible(workload, inputs, rows, columns)
        busy = workload.seq_q == 1 and workload.batch * workload.kv_heads > 64
        return torch.ones_like(seen) if busy and workload.mask.kind == "window" else seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
