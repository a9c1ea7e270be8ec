"""Each sequence uses the key length of the next sequence."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Each sequence uses the key length of the next sequence."""

    name = "padding-of-next-sequence"

    def visible(self, workload, inputs, rows, columns):
        """Use the key length of the next sequence. The last sequence uses that of the first."""
        if workload.mask.kind != "padding":
            return super().visible(workload, inputs, rows, columns)
        lengths = inputs.key_lengths.roll(-1)
        return (columns[None, :] < lengths[:, None, None]).expand(-1, len(rows), -1)[:, None]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
