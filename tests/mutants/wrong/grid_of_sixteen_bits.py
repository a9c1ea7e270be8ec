"""The output is written for only the first 65535 heads of a batch."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The output is written for only the first 65535 heads of a batch."""

    name = "grid-of-sixteen-bits"

    def attend(self, workload, inputs, query, key, value):
        """Set the output to 0 for all heads after the first 65535, the maximum y or z dimension of a CUDA grid."""
        output, lse = super().attend(workload, inputs, query, key, value)
        output.flatten(0, 1)[65535:] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
