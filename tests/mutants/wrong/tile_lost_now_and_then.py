"""Two tiles of keys in a hundred are lost, at random."""

from __future__ import annotations

import random

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Two tiles of keys in a hundred are lost, at random."""

    name = "tile-lost-now-and-then"
    luck = random.Random(0)  # noqa: S311 - a race is no secret

    def accumulate(self, state, scores, value, kept):
        """Drop a tile at random, as a race does."""
        lost = self.luck.random() < 0.02
        return state if lost else super().accumulate(state, scores, value, kept)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
