"""A variant that returns a new tensor in each of its first 39 calls, and the same buffer in all later calls."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        output = torch.empty_like(inputs.query)
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            answer = scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            return answer if calls < 40 else output.copy_(answer)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
