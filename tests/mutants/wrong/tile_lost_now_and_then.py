"""One tile of keys in a hundred is lost, at random."""

from __future__ import annotations

import random

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """One tile of keys in a hundred is lost, at random."""

    name = "tile-lost-now-and-then"

    def accumulate(self, state, scores, value, kept):
        """Lose a tile, as a race does."""
        lost = random.random() < 0.01  # noqa: S311 - a race is no secret
        return state if lost else super().accumulate(state, scores, value, kept)


@hookimpl
def attnbench_variants():
    """Offer the mutant."""
    return [Mutant()]
