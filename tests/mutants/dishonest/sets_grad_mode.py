"""A variant that disables gradient tracking for its whole process."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        torch.set_grad_enabled(False)
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
