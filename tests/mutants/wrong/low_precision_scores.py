"""Scores are rounded to bfloat16."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Scores are rounded to bfloat16."""

    name = "low-precision-scores"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Round the scores to bfloat16."""
        return super().scores(workload, inputs, query, key, rows, columns).bfloat16().float()


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
