"""The softcap is applied after the ALiBi bias is added."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The softcap is applied after the ALiBi bias is added."""

    name = "softcap-after-bias"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Apply the softcap to the sum of the scores and the ALiBi bias."""
        scores = query @ key.mT * self.scale(workload)
        if workload.alibi:
            scores = scores + self.alibi(workload, inputs, rows, columns)
        if workload.softcap is not None:
            scores = self.cap(scores, workload.softcap)
        return scores.masked_fill(~self.visible(workload, inputs, rows, columns), -torch.inf)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
