"""A variant that computes its next output in a Python thread between calls."""

import queue
import threading

from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        wanted, ready = threading.Semaphore(1), queue.SimpleQueue()

        def work():
            while wanted.acquire():
                ready.put(scaled_dot_product_attention(*inputs.leaves, is_causal=True))

        threading.Thread(target=work, name="works ahead", daemon=True).start()

        def call():
            output = ready.get()
            wanted.release()
            return output

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
