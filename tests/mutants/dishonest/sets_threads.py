"""A variant that increases torch's thread count."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
