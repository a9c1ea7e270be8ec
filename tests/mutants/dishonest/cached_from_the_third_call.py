"""A variant that computes its output only in the first two calls with the same inputs, and caches it for later calls.

A check that repeats the call only once after each change to the inputs would not detect this cache.
"""

import time

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        seen = output = None
        times = 0

        def call():
            nonlocal seen, output, times
            now = inputs.query[0, 0, 0, 0].item() + inputs.value[0, 0, 0, 0].item()
            times = times + 1 if now == seen else 1
            seen = now
            if times <= 2:
                time.sleep(0.002)  # simulates work that caching avoids
                output = scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            return output.clone()

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
