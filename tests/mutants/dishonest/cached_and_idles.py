"""A variant that returns a cached output as long as two input elements stay the same, and idles to look like work."""

import time

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        seen = output = None

        def call():
            nonlocal seen, output
            now = inputs.query[0, 0, 0, 0].item() + inputs.value[0, 0, 0, 0].item()
            if now != seen:
                time.sleep(0.003)  # simulates work that caching avoids
                seen, output = now, scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            else:
                time.sleep(0.002)
            return output.clone()

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
