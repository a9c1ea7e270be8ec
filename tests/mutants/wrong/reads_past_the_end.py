"""A value from the next head, multiplied by 0, is added to each head's output."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A value from the next head, multiplied by 0, is added to each head's output."""

    name = "reads-past-the-end"

    def attend(self, workload, inputs, query, key, value):
        """Add 0 times a value from the next head, so that the output becomes NaN if that value is NaN or infinite."""
        output, lse = super().attend(workload, inputs, query, key, value)
        return output + 0 * value.roll(-1, 1)[:, :, :1, :].amax(-1, keepdim=True), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
