"""For all heads after the first 64 of a batch, the last, partial tile of dV is not written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For all heads after the first 64 of a batch, the last, partial tile of dV is not written."""

    name = "grid-of-sixty-four"

    def differentiate(self, workload, *arguments):
        """Set the last, partial tile of dV to 0 for all heads after the first 64 of the batch."""
        of_query, of_key, of_value = super().differentiate(workload, *arguments)
        flat = of_value.flatten(0, 1)
        flat[64:, workload.seq_k // self.tile * self.tile :] = 0
        return of_query, of_key, flat.view_as(of_value)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
