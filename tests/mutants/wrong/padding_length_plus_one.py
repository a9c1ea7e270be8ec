"""Each query attends to one padded key."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Each query attends to one padded key."""

    name = "padding-length-plus-one"

    def visible(self, workload, inputs, rows, columns):
        """Treat each key length as if it were larger by one."""
        if workload.mask.kind != "padding":
            return super().visible(workload, inputs, rows, columns)
        return super().visible(workload, inputs, rows, columns - 1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
