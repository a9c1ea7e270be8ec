"""The calls of a workload write their outputs to two buffers in turn."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The calls of a workload write their outputs to two buffers in turn."""

    name = "output-from-two-buffers"

    def prepare(self, workload, inputs):
        """Allocate two buffers; this mutant has no backward pass."""
        call = super().prepare(workload, inputs)
        if workload.needs_gradient:
            return call
        shape = (workload.batch, workload.heads, workload.seq_q, workload.head_dim_v)
        buffers = [torch.empty(shape, dtype=inputs.query.dtype) for _ in range(2)]

        def attend():
            buffers.reverse()
            return buffers[0].copy_(call())

        return attend


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
