"""Every call for a workload writes its output to the same buffer."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Every call for a workload writes its output to the same buffer."""

    name = "output-aliased"

    def prepare(self, workload, inputs):
        """Return a callable that copies each output to the same buffer."""
        attend = super().prepare(workload, inputs)
        buffer = torch.empty_like(attend().detach())

        def call():
            output = attend()
            output.data = buffer.copy_(output.detach())
            return output

        return call


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
