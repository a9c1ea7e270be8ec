"""Non-contiguous keys are copied only once, in `prepare`."""

from __future__ import annotations

from dataclasses import replace

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Non-contiguous keys are copied only once, in `prepare`."""

    name = "strided-inputs-copied-once"

    def prepare(self, workload, inputs):
        """Copy non-contiguous keys and use the copy in every call, unless gradients are needed."""
        key = inputs.key.detach()
        if workload.needs_gradient or key.is_contiguous():
            return super().prepare(workload, inputs)
        return super().prepare(workload, replace(inputs, key=key.contiguous()))


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
