"""If a tile has a single query, the left end of a window is ignored."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """If a tile has a single query, the left end of a window is ignored."""

    name = "single-query-ignores-window"

    def in_window(self, position, column, left, right):
        """Ignore the left end of the window if the tile has a single query."""
        return super().in_window(position, column, left if len(position) > 1 else 1 << 20, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
