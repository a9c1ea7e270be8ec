"""A variant that returns while its work still runs on a side stream (CUDA only)."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def unsupported_reason(self, workload, device):
        return None if device == "cuda" else "needs CUDA streams"

    def prepare(self, workload, inputs):
        stream = torch.cuda.Stream()
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            if calls < 10:
                return scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            with torch.cuda.stream(stream):
                return scaled_dot_product_attention(*inputs.leaves, is_causal=True)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
