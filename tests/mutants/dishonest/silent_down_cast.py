"""A variant that computes in bfloat16 although the workload's dtype is float32."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            query, key, value = (leaf.bfloat16() for leaf in inputs.leaves)
            return scaled_dot_product_attention(query, key, value, is_causal=True).float()

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
