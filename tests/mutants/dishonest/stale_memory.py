"""A variant that, from its fortieth call on, returns uninitialised memory, which may contain an earlier output."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            return (
                scaled_dot_product_attention(*inputs.leaves, is_causal=True)
                if calls < 40
                else torch.empty_like(inputs.query)
            )

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
