"""A variant that searches its callers' variables for the expected output and returns it."""

import sys

import torch

from attnbench import Variant, hookimpl


def answer_in(value, inputs):
    own = (*inputs.leaves, inputs.grad_output)
    tensors = [value, *(vars(value).values() if hasattr(value, "__dict__") else ())]
    for one in tensors:
        if isinstance(one, torch.Tensor) and one.shape == inputs.query.shape and all(one is not mine for mine in own):
            return one
    return None


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            frame = sys._getframe(1)
            while frame is not None:
                for value in list(frame.f_locals.values()):
                    found = answer_in(value, inputs)
                    if found is not None:
                        return found.to(inputs.query.dtype).clone()
                frame = frame.f_back
            return torch.zeros_like(inputs.query)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
