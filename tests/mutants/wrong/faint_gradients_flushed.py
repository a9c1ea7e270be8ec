"""Output gradients that are subnormal in float16 are read as 0."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Output gradients that are subnormal in float16 are read as 0."""

    name = "faint-gradients-flushed"

    def grad_output_of(self, grad_output):
        """Replace subnormal values with 0 if grad_output is float16."""
        read = super().grad_output_of(grad_output)
        return torch.where(read.abs() < 2.0**-14, 0.0, read) if grad_output.dtype == torch.float16 else read


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
