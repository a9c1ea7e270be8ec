"""Padded keys are visible if there is a single query."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Padded keys are visible if there is a single query."""

    name = "single-query-ignores-padding"

    def visible(self, workload, inputs, rows, columns):
        """Ignore the key lengths if there is a single query."""
        seen = super().visible(workload, inputs, rows, columns)
        return seen | (workload.mask.kind == "padding" and workload.seq_q == 1)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
