"""A window of more than 256 keys to the left loses its farthest key."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A window of more than 256 keys to the left loses its farthest key."""

    name = "long-window-short"

    def in_window(self, position, column, left, right):
        """Shorten long windows by one key."""
        return super().in_window(position, column, left - (left > 256), right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
