"""Two percent of the key tiles are skipped at random."""

from __future__ import annotations

import random

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Two percent of the key tiles are skipped at random."""

    name = "tile-lost-now-and-then"
    luck = random.Random(0)  # noqa: S311 - not used for security

    def accumulate(self, state, scores, value, kept):
        """Skip two percent of the tiles at random, to simulate a race condition."""
        lost = self.luck.random() < 0.02
        return state if lost else super().accumulate(state, scores, value, kept)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
