"""A variant that searches all Python objects for the expected output and returns it."""

import gc

import torch

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            own = (*inputs.leaves, inputs.grad_output)
            for one in gc.get_objects():
                if isinstance(one, torch.Tensor) and one.shape == inputs.query.shape and all(one is not o for o in own):
                    return one.to(inputs.query.dtype).clone()
            return torch.zeros_like(inputs.query)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
