"""Only the first 65535 heads of a batch are written to the output."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Only the first 65535 heads of a batch are written to the output."""

    name = "grid-of-sixteen-bits"

    def attend(self, workload, inputs, query, key, value):
        """Return 0 for all heads after the first 65535, which is the limit of the y and z dimensions of a CUDA grid."""
        output, lse = super().attend(workload, inputs, query, key, value)
        output.flatten(0, 1)[65535:] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
