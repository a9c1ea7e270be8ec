"""The answer to the inputs seen while preparing is given for ever."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The answer to the inputs seen while preparing is given for ever."""

    name = "answer-cached"

    def prepare(self, workload, inputs):
        """Read the keys once."""
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
    """Offer the mutant."""
    return [Mutant()]
