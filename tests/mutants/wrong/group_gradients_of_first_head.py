"""dK and dV include the gradients of only the first query head in each group."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dK and dV include the gradients of only the first query head in each group."""

    name = "group-gradients-of-first-head"

    def sum_groups(self, gradient, workload):
        """Return the gradients of the first query head in each group."""
        return gradient.unflatten(1, (workload.kv_heads, -1))[:, :, 0]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
