"""A variant that replaces torch.cuda.Event."""

import functools

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl

original = torch.cuda.Event
torch.cuda.Event = functools.partial(original)


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
