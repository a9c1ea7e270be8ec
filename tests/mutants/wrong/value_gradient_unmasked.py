"""Under a causal mask, dV is computed from unmasked weights."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under a causal mask, dV is computed from unmasked weights."""

    name = "value-gradient-unmasked"

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """If the mask is causal, recompute dV as if every key were visible."""
        of_query, of_key, of_value = super().differentiate(workload, inputs, grad_output, leaves, output, lse)
        if workload.mask.kind != "causal":
            return of_query, of_key, of_value
        query, key, _ = leaves
        scores = query @ key.mT * self.scale(workload)
        weights = torch.exp(scores - lse.masked_fill(lse == -torch.inf, torch.inf)).clamp(max=1.0)
        return of_query, of_key, weights.mT @ grad_output


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
