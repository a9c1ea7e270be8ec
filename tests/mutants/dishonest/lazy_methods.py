"""A variant that returns a plain tensor whose own methods compute its values when the tensor is first looked at."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl

METHODS = ("detach", "untyped_storage", "transpose", "clone", "to", "double", "flatten", "view", "data_ptr")


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            lazy = torch.empty_like(inputs.query)

            def worked(name):
                def method(*args, **kwargs):
                    vars(lazy).clear()
                    lazy.copy_(scaled_dot_product_attention(*inputs.leaves, is_causal=True))
                    return getattr(lazy, name)(*args, **kwargs)

                return method

            for name in METHODS:
                setattr(lazy, name, worked(name))
            return lazy

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
