"""In the `forward` direction, every call after the twentieth returns the twentieth call's output."""

from __future__ import annotations

import itertools

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """In the `forward` direction, every call after the twentieth returns the twentieth call's output."""

    name = "answer-kept-after-many-calls"

    def prepare(self, workload, inputs):
        """Return a callable that returns its twentieth output again in all later calls, unless gradients are needed."""
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
