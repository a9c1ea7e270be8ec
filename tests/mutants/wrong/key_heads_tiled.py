"""Query head h reads key head h % kv_heads."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Query head h reads key head h % kv_heads."""

    name = "key-heads-tiled"

    def repeat(self, heads, workload):
        """Tile the heads instead of repeating them."""
        return heads.float().repeat(1, workload.heads // workload.kv_heads, 1, 1)

    def sum_groups(self, gradient, workload):
        """Sum the gradients of tiled heads."""
        return gradient.unflatten(1, (-1, workload.kv_heads)).sum(1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
