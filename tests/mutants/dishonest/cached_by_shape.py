"""A variant that caches its outputs, keyed by the query and key shapes."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        cache = {}

        def call():
            key = (inputs.query.shape, inputs.key.shape)
            if key not in cache:
                cache[key] = scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            return cache[key].clone()

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
