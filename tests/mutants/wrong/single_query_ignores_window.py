"""A single query sees all earlier keys, even under a window."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A single query sees all earlier keys, even under a window."""

    name = "single-query-ignores-window"

    def in_window(self, position, column, left, right):
        """Ignore the left end if there is a single query."""
        return super().in_window(position, column, left if len(position) > 1 else 1 << 20, right)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
