"""Under a window, the log-sum-exp lacks the maximum of the scores."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under a window, the log-sum-exp lacks the maximum of the scores."""

    name = "log-sum-exp-unscaled-under-window"

    def prepare_lse(self, workload, inputs):
        """Leave out the maximum under a window."""
        call = super().prepare_lse(workload, inputs)

        def offer():
            output, lse = call()
            return output, lse - 0.5 if workload.mask.kind == "window" else lse

        return offer


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
