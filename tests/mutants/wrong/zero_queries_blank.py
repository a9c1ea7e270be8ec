"""A row whose query is zero is treated as padding."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A row whose query is zero is treated as padding."""

    name = "zero-queries-blank"

    def attend(self, workload, inputs, query, key, value):
        """Return 0 for rows whose query is zero."""
        output, lse = super().attend(workload, inputs, query, key, value)
        return output * (query != 0).any(-1, keepdim=True), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
