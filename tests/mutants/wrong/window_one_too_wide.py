"""A window includes one key too many on the left."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A window includes one key too many on the left."""

    name = "window-one-too-wide"

    def in_window(self, position, column, left, right):
        """Widen the window by one key on the left."""
        return super().in_window(position, column, left + 1, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
