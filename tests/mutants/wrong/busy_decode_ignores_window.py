"""With more than 64 key heads over all sequences, a single query ignores its window."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With more than 64 key heads over all sequences, a single query ignores its window."""

    name = "busy-decode-ignores-window"

    def visible(self, workload, inputs, rows, columns):
        """Show every key to a single query if there are many heads."""
        seen = super().visible(workload, inputs, rows, columns)
        busy = workload.seq_q == 1 and workload.batch * workload.kv_heads > 64
        return torch.ones_like(seen) if busy and workload.mask.kind == "window" else seen


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
