"""The left end of a window is ignored."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The left end of a window is ignored."""

    name = "window-ignored"

    def in_window(self, position, column, left, right):
        """Return whether each key is at or before the right end of the window."""
        return column <= position + right


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
