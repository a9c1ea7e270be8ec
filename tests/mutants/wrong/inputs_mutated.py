"""Each call scales the query in place."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Each call scales the query in place."""

    name = "inputs-mutated"

    def prepare(self, workload, inputs):
        """Return a callable that computes attention and then scales the query in place."""
        attend = super().prepare(workload, inputs)

        def call():
            output = attend()
            inputs.query.detach().mul_(workload.effective_scale)
            return output

        return call


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
