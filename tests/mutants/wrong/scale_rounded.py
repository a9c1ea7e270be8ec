"""For float16 and bfloat16 inputs, the scale is rounded to the input dtype."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For float16 and bfloat16 inputs, the scale is rounded to the input dtype."""

    name = "scale-rounded"

    def scale(self, workload):
        """Round the scale to the input dtype."""
        return float(torch.tensor(workload.effective_scale, device=self.device).to(getattr(torch, workload.dtype)))


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
