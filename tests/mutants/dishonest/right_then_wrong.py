"""A variant that returns the right output in its first 39 calls, and a copy of its value tensor in later calls."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            return scaled_dot_product_attention(*inputs.leaves, is_causal=True) if calls < 40 else inputs.value.clone()

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
