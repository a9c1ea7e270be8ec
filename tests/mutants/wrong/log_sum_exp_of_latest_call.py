"""The log-sum-exp for the backward pass is stored once per shape instead of once per call."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The log-sum-exp for the backward pass is stored once per shape instead of once per call."""

    name = "log-sum-exp-of-latest-call"

    def __init__(self):
        """Start with no stored log-sum-exp."""
        super().__init__()
        self.latest = {}

    def attend(self, workload, inputs, query, key, value):
        """Compute attention, and store the log-sum-exp under the query's shape."""
        output, lse = super().attend(workload, inputs, query, key, value)
        self.latest[query.shape] = lse
        return output, lse

    def differentiate(self, workload, inputs, grad_output, leaves, output, lse):
        """Use the log-sum-exp that was last stored under the query's shape."""
        return super().differentiate(workload, inputs, grad_output, leaves, output, self.latest[leaves[0].shape])


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
