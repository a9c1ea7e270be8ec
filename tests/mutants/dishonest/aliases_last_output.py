"""A variant that writes each output to the same buffer."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        output = torch.empty_like(inputs.query)
        return lambda: output.copy_(scaled_dot_product_attention(*inputs.leaves, is_causal=True))


@hookimpl
def attnbench_variants():
    return [Dishonest()]
