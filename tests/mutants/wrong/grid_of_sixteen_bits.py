"""With more than 65535 heads over all sequences, the remaining heads are not written."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With more than 65535 heads over all sequences, the remaining heads are not written."""

    name = "grid-of-sixteen-bits"

    def attend(self, workload, inputs, query, key, value):
        """Leave out the heads beyond the largest size of a CUDA grid dimension."""
        output, lse = super().attend(workload, inputs, query, key, value)
        output.flatten(0, 1)[65535:] = 0
        return output, lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
