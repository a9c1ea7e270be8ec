"""A variant that returns a lazy tensor, whose values are computed only when they are read, after the timed call."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        def worked(value):
            return value.work() if isinstance(value, Lazy) and hasattr(value, "work") else value

        return super().__torch_function__(function, (), tuple(map(worked, args)), kwargs or {})


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            if calls < 10:
                return scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            lazy = torch.empty_like(inputs.query).as_subclass(Lazy)
            lazy.work = lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            return lazy

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
