"""A variant that seeds torch's global generator."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        torch.manual_seed(1234)
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
