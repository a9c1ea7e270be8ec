"""A window of L keys to the left has one key too many."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A window of L keys to the left has one key too many."""

    name = "window-one-too-wide"

    def in_window(self, position, column, left, right):
        """Widen the window by one key at the left."""
        return super().in_window(position, column, left + 1, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
