"""Every backward pass for a workload writes dK and dV to the same buffers."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Every backward pass for a workload writes dK and dV to the same buffers."""

    name = "gradients-share-a-buffer"

    buffers: dict = {}  # noqa: RUF012 - sharing the buffers is the bug

    calls = 0

    def sum_groups(self, gradient, workload):
        """Write the sums alternately to two buffers, one for dK and one for dV."""
        summed = super().sum_groups(gradient, workload)
        self.calls += 1
        return self.buffers.setdefault((workload, self.calls % 2), summed).copy_(summed)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
