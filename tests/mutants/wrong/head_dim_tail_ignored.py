"""The elements of head_dim beyond the last multiple of 16 are not read."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The elements of head_dim beyond the last multiple of 16 are not read."""

    name = "head-dim-tail-ignored"

    def scores(self, workload, inputs, query, key, rows, columns):
        """Read only whole blocks of 16 elements."""
        width = max(16, workload.head_dim // 16 * 16)
        return super().scores(workload, inputs, query[..., :width], key[..., :width], rows, columns)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
