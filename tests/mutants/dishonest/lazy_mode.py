"""A variant that leaves a mode of torch active, which computes the output when torch is first used after the call."""

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from attnbench import Variant, hookimpl


class Work(TorchFunctionMode):
    def __init__(self, work):
        super().__init__()
        self.work = work

    def __torch_function__(self, function, types, args=(), kwargs=None):
        work, self.work = self.work, None
        if work is not None:
            work()
        return function(*args, **(kwargs or {}))


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        last = None

        def call():
            nonlocal last
            if last is not None:
                last.work = None
                last.__exit__(None, None, None)
            output = torch.empty_like(inputs.query)
            last = Work(lambda: output.copy_(scaled_dot_product_attention(*inputs.leaves, is_causal=True)))
            last.__enter__()
            return output

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
