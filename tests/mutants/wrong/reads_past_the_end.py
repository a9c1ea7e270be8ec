"""The last tile of keys also reads the values of the next head, and multiplies them by 0."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The last tile of keys also reads the values of the next head, and multiplies them by 0."""

    name = "reads-past-the-end"

    def attend(self, workload, inputs, query, key, value):
        """Add 0 times the values that follow a head."""
        output, lse = super().attend(workload, inputs, query, key, value)
        return output + 0 * value.roll(-1, 1)[:, :, :1, :].amax(-1, keepdim=True), lse


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
