"""dV is summed over at most eight query heads per group."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """dV is summed over at most eight query heads per group."""

    name = "value-gradient-of-eight-heads"

    def differentiate(self, workload, *arguments):
        """Leave out the dV contributions of all query heads after the first eight in each group."""
        of_query, of_key, of_value = super().differentiate(workload, *arguments)
        of_value = of_value.unflatten(1, (workload.kv_heads, -1)).clone()
        of_value[:, :, 8:] = 0
        return of_query, of_key, of_value.flatten(1, 2)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
