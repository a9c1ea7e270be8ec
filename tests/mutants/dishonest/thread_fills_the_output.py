"""A variant that returns an uninitialised tensor, which a Python thread fills later."""

import queue
import threading

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        jobs = queue.SimpleQueue()

        def work():
            while True:
                output = jobs.get()
                output.copy_(scaled_dot_product_attention(*inputs.leaves, is_causal=True))

        threading.Thread(target=work, name="filler", daemon=True).start()
        calls = 0

        def call():
            nonlocal calls
            calls += 1
            if calls < 10:
                return scaled_dot_product_attention(*inputs.leaves, is_causal=True)
            output = torch.empty_like(inputs.query)
            jobs.put(output)
            return output

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
