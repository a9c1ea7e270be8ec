"""Query head h reads key head h % kv_heads instead of the key head of its group."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Query head h reads key head h % kv_heads instead of the key head of its group."""

    name = "key-heads-tiled"

    def repeat(self, heads, workload):
        """Repeat the heads in the order 0, 1, 0, 1 instead of 0, 0, 1, 1."""
        return heads.float().repeat(1, workload.heads // workload.kv_heads, 1, 1)

    def sum_groups(self, gradient, workload):
        """Sum the gradients over the query heads that read the same key head."""
        return gradient.unflatten(1, (-1, workload.kv_heads)).sum(1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
