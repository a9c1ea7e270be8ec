"""A window of a multiple of 64 keys loses its first key."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A window of a multiple of 64 keys loses its first key."""

    name = "wide-window-loses-a-key"

    def in_window(self, position, column, left, right):
        """Shorten a window by one key if its size is a multiple of 64."""
        narrower = left > 0 and left % 64 == 0
        return super().in_window(position, column, left - narrower, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
