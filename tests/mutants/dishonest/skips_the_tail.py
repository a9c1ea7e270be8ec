"""A variant that leaves the last three rows of its output at 0."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            output = scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            output[:, :, -3:] = 0
            return output

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
