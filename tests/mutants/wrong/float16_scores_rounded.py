"""For float16 inputs, the scores are rounded to float16."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For float16 inputs, the scores are rounded to float16."""

    name = "float16-scores-rounded"

    def scores(self, workload, *arguments):
        """Round the scores to float16 if the inputs are float16."""
        scores = super().scores(workload, *arguments)
        return scores.half().float() if workload.dtype == "float16" else scores


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
