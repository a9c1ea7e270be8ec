"""After nineteen calls, the last result is returned again and again."""

from __future__ import annotations

import itertools

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """After nineteen calls, the last result is returned again and again."""

    name = "answer-kept-after-many-calls"

    def prepare(self, workload, inputs):
        """Return a callable that repeats its last output after nineteen calls."""
        call, count, kept = super().prepare(workload, inputs), itertools.count(), []

        def attend():
            if next(count) < 20 or workload.needs_gradient:
                kept[:] = [call()]
            return kept[0].clone()

        return attend


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
