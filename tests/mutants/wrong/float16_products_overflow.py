"""For float16 inputs, the unscaled products of queries and keys are clamped to ±65504."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For float16 inputs, the unscaled products of queries and keys are clamped to ±65504."""

    name = "float16-products-overflow"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Clamp the unscaled products to the range of float16."""
        if workload.dtype != "float16" or workload.softcap is not None or workload.alibi:
            return super().scores(workload, inputs, query, key, rows, columns)
        products = (query @ key.mT).clamp(-65504, 65504) * self.scale(workload)
        return products.masked_fill(~self.visible(workload, inputs, rows, columns), -torch.inf)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
