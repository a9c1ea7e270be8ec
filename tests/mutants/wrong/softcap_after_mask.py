"""The softcap is applied to masked scores, so that -inf becomes -softcap."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The softcap is applied to masked scores, so that -inf becomes -softcap."""

    name = "softcap-after-mask"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Apply the softcap to the masked scores."""
        scores = query @ key.mT * self.scale(workload)
        if workload.alibi:
            scores = scores + self.alibi(workload, inputs, rows, columns)
        scores = scores.masked_fill(~self.visible(workload, inputs, rows, columns), -torch.inf)
        return scores if workload.softcap is None else self.cap(scores, workload.softcap)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
