"""The running sum of dK is rounded to the input dtype after each query tile."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The running sum of dK is rounded to the input dtype after each query tile."""

    name = "key-gradient-summed-in-half"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Round the running sum of dK to the input dtype after each query tile."""
        of_query, of_key, of_value = super().differentiate(workload, inputs, grad_output, leaves, output, lse)
        dtype = inputs.query.dtype
        if dtype == torch.float32:
            return of_query, of_key, of_value
        total = torch.zeros_like(of_key)
        for rows in self.tiles(workload.seq_q):
            tile = torch.zeros_like(grad_output)
            tile[:, :, rows] = grad_output[:, :, rows]
            part = super().differentiate(workload, inputs, tile, leaves, output, lse)[1]
            total = (total + part).to(dtype).float()
        return of_query, total, of_value


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
