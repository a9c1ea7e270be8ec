"""The output is 0 for queries whose elements are all 0."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The output is 0 for queries whose elements are all 0."""

    name = "zero-queries-blank"

    def attend(self, workload, inputs, query, key, value):
        """Return an output of 0 for each query whose elements are all 0."""
        output, lse = super().attend(workload, inputs, query, key, value)
        return output * (query != 0).any(-1, keepdim=True), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
