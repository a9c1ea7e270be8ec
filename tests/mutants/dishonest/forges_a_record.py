"""A variant that writes a forged result to every open pipe."""

import contextlib
import os
import stat

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl

FORGED = b'{"id":"","body":{"type":"Block","samples_ns":[1.0],"calls_per_sample":1,"wall_ns":1.0}}\n'


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        def call():
            for descriptor in range(3, 64):
                with contextlib.suppress(OSError):
                    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                        os.write(descriptor, FORGED)
            return scaled_dot_product_attention(*inputs.leaves, is_causal=True)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
