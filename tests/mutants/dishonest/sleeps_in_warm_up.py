"""A variant that sleeps during the warm-up, to reduce the number of samples."""

import time

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            if calls < 22:
                time.sleep(0.02)
            return scaled_dot_product_attention(*inputs.leaves, is_causal=True)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
