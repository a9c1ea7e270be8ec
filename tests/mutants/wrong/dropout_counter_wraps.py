"""Rows 192 apart drop the same weights."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Rows 192 apart drop the same weights."""

    name = "dropout-counter-wraps"

    def kept(self, workload, inputs, rows, columns):
        """Count rows modulo 192."""
        return super().kept(workload, inputs, rows - int(rows[0]) // 192 * 192, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
