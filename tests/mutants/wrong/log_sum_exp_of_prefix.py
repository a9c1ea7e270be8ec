"""Under a prefix mask, the log-sum-exp leaves out the prefix, but the output includes it."""

from __future__ import annotations

import dataclasses

from tiled import Tiled

from attnbench import hookimpl
from attnbench.workloads.mask import Mask


class Mutant(Tiled):
    """Under a prefix mask, the log-sum-exp leaves out the prefix, but the output includes it."""

    name = "log-sum-exp-of-prefix"

    def prepare_lse(self, workload, inputs):
        """Return a callable that uses a causal mask for the log-sum-exp if the workload's mask is a prefix mask."""
        right = super().prepare_lse(workload, inputs)
        if workload.mask.kind != "prefix":
            return right
        causal = super().prepare_lse(dataclasses.replace(workload, mask=Mask("causal")), inputs)
        return lambda: (right()[0], causal()[1])


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
