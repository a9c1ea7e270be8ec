"""A variant that overwrites its value tensor with its output and returns this tensor."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: inputs.value.data.copy_(scaled_dot_product_attention(*inputs.leaves, is_causal=True))


@hookimpl
def attnbench_variants():
    return [Dishonest()]
