"""From the twentieth call on, the last answer is returned again."""

from __future__ import annotations

import itertools

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """From the twentieth call on, the last answer is returned again."""

    name = "answer-kept-after-many-calls"

    def prepare(self, workload, inputs):
        """Return the last output from the twentieth call on."""
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
