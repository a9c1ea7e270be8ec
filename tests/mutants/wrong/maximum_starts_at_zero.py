"""The running maximum starts at 0 instead of -inf."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The running maximum starts at 0 instead of -inf."""

    name = "maximum-starts-at-zero"

    def start(self, query, value):
        """Start the running maximum at 0, which is too high if all scores are far below 0."""
        _, total, summed = super().start(query, value)
        return 0 * total, total, summed


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
