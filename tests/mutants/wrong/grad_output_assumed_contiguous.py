"""The backward pass reads grad_output as if it were contiguous."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The backward pass reads grad_output as if it were contiguous."""

    name = "grad-output-assumed-contiguous"

    def grad_output_of(self, grad_output):
        """Read consecutive elements of the storage, ignoring the strides."""
        flat = grad_output.as_strided((grad_output.untyped_storage().nbytes() // grad_output.element_size(),), (1,), 0)
        places = torch.arange(grad_output.numel(), device=self.device) % flat.numel()
        return flat[places].view(grad_output.shape).float()


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
