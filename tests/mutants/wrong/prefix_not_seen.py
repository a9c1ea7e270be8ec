"""A prefix mask is treated as a causal mask."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A prefix mask is treated as a causal mask."""

    name = "prefix-not-seen"

    def visible(self, workload, inputs, rows, columns):
        """Return a causal mask if the workload's mask is a prefix mask."""
        if workload.mask.kind != "prefix":
            return super().visible(workload, inputs, rows, columns)
        return (columns[None, :] <= rows[:, None] + self.offset(workload))[None, None]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
