"""The right end of a window is excluded."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The right end of a window is excluded."""

    name = "window-one-too-narrow"

    def in_window(self, position, column, left, right):
        """Exclude the right end, unless it is the query's own position."""
        return super().in_window(position, column, left, max(0, right - 1))


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
