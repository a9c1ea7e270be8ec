"""A single query sees padded keys."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A single query sees padded keys."""

    name = "single-query-ignores-padding"

    def visible(self, workload, inputs, rows, columns):
        """Ignore the lengths if there is a single query."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen | (workload.mask.kind == "padding" and workload.seq_q == 1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
