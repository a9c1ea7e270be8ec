"""A tile of keys is skipped if all its scores are more than 11 below the running maximum."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """A tile of keys is skipped if all its scores are more than 11 below the running maximum."""

    name = "faint-tiles-skipped"

    def accumulate(self, state, scores, value, kept):
        """Skip the tile if all its weights seem negligible."""
        if bool((scores.amax(-1, keepdim=True) < state[0] - 11.0).all()):
            return state
        return super().accumulate(state, scores, value, kept)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
