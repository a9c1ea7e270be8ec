"""A variant that returns NaN, which no comparison with > finds too large."""

import torch

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: torch.full_like(inputs.query, float("nan"))


@hookimpl
def attnbench_variants():
    return [Dishonest()]
