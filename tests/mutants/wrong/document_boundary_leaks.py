"""The first query of a document also attends to the last key of the previous document."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The first query of a document also attends to the last key of the previous document."""

    name = "document-boundary-leaks"

    def visible(self, workload, inputs, rows, columns):
        """Make the last key of the previous document visible to the first query of each document."""
        seen = super().visible(workload, inputs, rows, columns)
        if workload.mask.kind != "document":
            return seen
        before = super().visible(workload, inputs, (rows - 1).clamp(min=0), columns)
        last_before = (rows[:, None] - 1 == columns[None, :])[None, None]
        return seen | (before & last_before)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
