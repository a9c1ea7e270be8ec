"""A variant that reads its callers' variables and returns a cached output unless the sampler is auditing the call."""

import sys
import time

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


def is_audited():
    frame = sys._getframe(1)
    while frame is not None:
        if "kind" in frame.f_locals:
            return frame.f_locals["kind"] != "plain"
        frame = frame.f_back
    return True


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        output = None

        def call():
            nonlocal output
            if output is None or is_audited():
                time.sleep(0.002)  # simulates work that caching avoids
                output = scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            return output.clone()

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
