"""All query heads of a group use the same ALiBi slope."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """All query heads of a group use the same ALiBi slope."""

    name = "alibi-of-key-heads"

    def alibi(self, workload, inputs, rows, columns):
        """Use the slope of the first head in each group."""
        bias = super().alibi(workload, inputs, rows, columns)
        group = workload.heads // workload.kv_heads
        return bias[:, ::group].repeat_interleave(group, 1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
