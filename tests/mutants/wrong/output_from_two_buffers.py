"""Calls for a workload write their outputs alternately to two buffers."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Calls for a workload write their outputs alternately to two buffers."""

    name = "output-from-two-buffers"

    def prepare(self, workload, inputs):
        """Return a callable that alternates between two buffers, unless gradients are needed."""
        call = super().prepare(workload, inputs)
        if workload.needs_gradient:
            return call
        shape = (workload.batch, workload.heads, workload.seq_q, workload.head_dim_v)
        buffers = [inputs.query.new_empty(shape) for _ in range(2)]

        def attend():
            buffers.reverse()
            return buffers[0].copy_(call())

        return attend


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
