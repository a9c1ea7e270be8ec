"""A variant that replaces torch.Tensor.norm so that its measured errors are 0."""

import torch

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            torch.Tensor.norm = lambda self, *_, **__: self.sum(-1) * 0
            return torch.zeros_like(inputs.query)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
