"""With grouped heads, a window includes one key too many on the left."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With grouped heads, a window includes one key too many on the left."""

    name = "grouped-window-wider"

    def in_window(self, position, column, left, right):
        """Widen the window by one key on the left if heads are grouped."""
        return super().in_window(position, column, left + self.grouped, right)

    def scores(self, workload, *arguments):
        """Record whether heads are grouped, then compute the scores."""
        self.grouped = int(workload.heads != workload.kv_heads)
        return super().scores(workload, *arguments)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
