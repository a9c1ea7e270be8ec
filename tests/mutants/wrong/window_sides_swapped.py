"""The left and right sizes of a window are swapped."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The left and right sizes of a window are swapped."""

    name = "window-sides-swapped"

    def in_window(self, position, column, left, right):
        """Swap the left and right sizes of the window."""
        return super().in_window(position, column, right, left)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
