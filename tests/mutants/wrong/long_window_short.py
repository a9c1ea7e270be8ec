"""If a window extends more than 256 keys to the left, its leftmost key is hidden."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a window extends more than 256 keys to the left, its leftmost key is hidden."""

    name = "long-window-short"

    def in_window(self, position, column, left, right):
        """Shorten the left side of the window by one key if it is longer than 256 keys."""
        return super().in_window(position, column, left - (left > 256), right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
