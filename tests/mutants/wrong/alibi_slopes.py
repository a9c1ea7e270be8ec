"""The ALiBi slopes are wrong if the number of heads is not a power of two."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The ALiBi slopes are wrong if the number of heads is not a power of two."""

    name = "alibi-slopes"

    def alibi(self, workload, inputs, rows, columns):
        """Use the slope 2^(-8 h / heads) for head h (counting from 1), even if `heads` is not a power of two."""
        distance = (rows[:, None] + workload.seq_k - workload.seq_q - columns[None, :]).abs()
        heads = torch.arange(1, workload.heads + 1, device=self.device)
        slopes = 2.0 ** (-8 * heads / workload.heads)
        return -slopes[None, :, None, None] * distance


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
