"""A variant that replaces the method with which the gate judges outputs."""

import torch

from attnbench import Variant, hookimpl
from attnbench.conformance.gate import Gate, Verdict


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        Gate._judge = lambda *arguments: Verdict(True, "all is well")
        return lambda: torch.zeros_like(inputs.query)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
