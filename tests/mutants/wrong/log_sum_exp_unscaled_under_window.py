"""Under a window mask, the log-sum-exp is too small by 0.5."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Under a window mask, the log-sum-exp is too small by 0.5."""

    name = "log-sum-exp-unscaled-under-window"

    def prepare_lse(self, workload, inputs):
        """Return a callable that subtracts 0.5 from the log-sum-exp under a window mask."""
        call = super().prepare_lse(workload, inputs)

        def offer():
            output, lse = call()
            return output, lse - 0.5 if workload.mask.kind == "window" else lse

        return offer


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
