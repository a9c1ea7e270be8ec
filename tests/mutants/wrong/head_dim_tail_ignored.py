"""In each query and key, the elements after the last whole block of 16 are ignored."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """In each query and key, the elements after the last whole block of 16 are ignored."""

    name = "head-dim-tail-ignored"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Compute the scores from whole blocks of 16 elements only."""
        width = max(16, workload.head_dim // 16 * 16)
        return super().scores(workload, inputs, query[..., :width], key[..., :width], rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
