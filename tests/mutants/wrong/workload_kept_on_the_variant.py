"""All calls use the scale of the workload that was prepared last."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """All calls use the scale of the workload that was prepared last."""

    name = "workload-kept-on-the-variant"

    def prepare(self, workload, inputs):
        """Store the workload on the variant."""
        self.last = workload
        return super().prepare(workload, inputs)

    def scale(self, workload):
        """Return the scale of the workload that was prepared last."""
        return self.last.effective_scale


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
