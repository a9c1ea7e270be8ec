"""A variant that replaces time.perf_counter_ns."""

import functools
import time

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl

original = time.perf_counter_ns
time.perf_counter_ns = functools.partial(original)


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
