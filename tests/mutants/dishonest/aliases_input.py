"""A variant that writes its output to the value tensor and returns that tensor."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: inputs.value.data.copy_(scaled_dot_product_attention(*inputs.leaves, is_causal=True))


@hookimpl
def attnbench_variants():
    return [Dishonest()]
