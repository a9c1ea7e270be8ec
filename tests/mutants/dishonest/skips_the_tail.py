"""A variant that skips the last rows of the output."""

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
