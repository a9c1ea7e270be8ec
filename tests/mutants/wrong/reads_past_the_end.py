"""A value of the next head, multiplied by 0, is added to the output of each head."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A value of the next head, multiplied by 0, is added to the output of each head."""

    name = "reads-past-the-end"

    def attend(self, workload, inputs, query, key, value):
        """Add 0 times a value of the next head, which gives NaN if that value is NaN or infinite."""
        output, lse = super().attend(workload, inputs, query, key, value)
        return output + 0 * value.roll(-1, 1)[:, :, :1, :].amax(-1, keepdim=True), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
