"""Windows of whole tiles lose their first key."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Windows of whole tiles lose their first key."""

    name = "wide-window-loses-a-key"

    def in_window(self, position, column, left, right):
        """Narrow windows of 64 keys and its multiples."""
        narrower = left > 0 and left % 64 == 0
        return super().in_window(position, column, left - narrower, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
