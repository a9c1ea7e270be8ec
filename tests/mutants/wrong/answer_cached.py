"""Every call returns the result for the inputs that `prepare` received."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Every call returns the result for the inputs that `prepare` received."""

    name = "answer-cached"

    def prepare(self, workload, inputs):
        """Read the keys only once, in `prepare`."""
        key = inputs.key.detach().clone()
        attend = super().prepare(workload, inputs)

        def call():
            fresh = inputs.key.detach().clone()
            with torch.no_grad():
                inputs.key.data.copy_(key)
            output = attend()
            inputs.key.data.copy_(fresh)
            return output

        return call


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
