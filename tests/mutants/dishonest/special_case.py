"""A variant that returns a wrong output for sequence lengths that are common in benchmarks."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            if inputs.query.shape[2] in (64, 512, 1024):
                return inputs.value.cumsum(2) / torch.arange(1, workload.seq_q + 1)[:, None]
            return scaled_dot_product_attention(*inputs.leaves, is_causal=True)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
