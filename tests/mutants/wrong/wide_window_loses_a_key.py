"""If a window extends to the left by a multiple of 64 keys, its leftmost key is hidden."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a window extends to the left by a multiple of 64 keys, its leftmost key is hidden."""

    name = "wide-window-loses-a-key"

    def in_window(self, position, column, left, right):
        """Shorten the left side of the window by one key if its length is a multiple of 64."""
        narrower = left > 0 and left % 64 == 0
        return super().in_window(position, column, left - narrower, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
