"""Dropout drops the same weights in rows that are 192 apart."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Dropout drops the same weights in rows that are 192 apart."""

    name = "dropout-counter-wraps"

    def kept(self, workload, inputs, rows, columns):
        """Compute the dropout factors from row positions modulo 192."""
        return super().kept(workload, inputs, rows - int(rows[0]) // 192 * 192, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
