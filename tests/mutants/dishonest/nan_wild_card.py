"""A variant that returns NaN, which passes any check that fails only if `error > limit`."""

import torch

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: torch.full_like(inputs.query, float("nan"))


@hookimpl
def attnbench_variants():
    return [Dishonest()]
