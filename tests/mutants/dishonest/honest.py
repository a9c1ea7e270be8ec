"""An honest variant that calls SDPA, used to show that the checks do not flag correct code."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=True)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
