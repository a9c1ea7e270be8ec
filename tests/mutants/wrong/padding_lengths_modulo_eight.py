"""Sequence i uses the key length of sequence i modulo 8."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Sequence i uses the key length of sequence i modulo 8."""

    name = "padding-lengths-modulo-eight"

    def visible(self, workload, inputs, rows, columns):
        """Reuse the key lengths of the first eight sequences for all later sequences."""
        if workload.mask.kind != "padding":
            return super().visible(workload, inputs, rows, columns)
        lengths = inputs.key_lengths[torch.arange(workload.batch, device=self.device) % 8]
        return (columns < lengths[:, None, None]).expand(-1, len(rows), -1)[:, None]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
