"""A variant that ignores the scale."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True, scale=1.0)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
