"""A variant that ignores the workload's dropout, which is faster than drawing which weights are dropped."""

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        causal = workload.mask.is_causal
        return lambda: scaled_dot_product_attention(*inputs.leaves, is_causal=causal and workload.seq_q > 1)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
