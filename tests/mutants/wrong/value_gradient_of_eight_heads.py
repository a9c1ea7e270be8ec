"""dV sums over eight query heads of a group at most."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dV sums over eight query heads of a group at most."""

    name = "value-gradient-of-eight-heads"

    def differentiate(self, workload, *arguments):
        """Drop what the ninth head of a group and those after it give."""
        of_query, of_key, of_value = super().differentiate(workload, *arguments)
        of_value = of_value.unflatten(1, (workload.kv_heads, -1)).clone()
        of_value[:, :, 8:] = 0
        return of_query, of_key, of_value.flatten(1, 2)


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
