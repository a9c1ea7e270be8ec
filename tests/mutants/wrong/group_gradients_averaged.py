"""dK and dV are averaged over the query heads of a group instead of summed."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dK and dV are averaged over the query heads of a group instead of summed."""

    name = "group-gradients-averaged"

    def sum_groups(self, gradient, workload):
        """Return the average instead of the sum."""
        return gradient.unflatten(1, (workload.kv_heads, -1)).mean(2)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
