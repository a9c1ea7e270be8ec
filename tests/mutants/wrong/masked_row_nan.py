"""The output of a row without a visible key is NaN."""

from __future__ import annotations

import torch
from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The output of a row without a visible key is NaN."""

    name = "masked-row-nan"

    def finish(self, state, value):
        """Divide by the sum of weights even if it is 0."""
        top, total, summed = state
        return summed / total, top + torch.log(total)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
