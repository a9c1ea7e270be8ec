"""With more than 64 heads over all sequences, dV lacks its last tile of keys."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With more than 64 heads over all sequences, dV lacks its last tile of keys."""

    name = "grid-of-sixty-four"

    def differentiate(self, workload, *arguments):
        """Leave the last tile of dV unwritten."""
        of_query, of_key, of_value = super().differentiate(workload, *arguments)
        flat = of_value.flatten(0, 1)
        flat[64:, workload.seq_k // self.tile * self.tile :] = 0
        return of_query, of_key, flat.view_as(of_value)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
