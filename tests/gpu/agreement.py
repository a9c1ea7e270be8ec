"""Compare attnbench's timings with those of other tools, and exit with status 1 if they disagree.

The median of cold timings must agree within 1% with that of triton.testing.do_bench, which also flushes the cache. The
time of a replayed CUDA graph must agree within 2% with the sum of the kernel times that torch's profiler measures. Both
comparisons are made at three sequence lengths.
"""

import statistics
import sys

import torch
from triton.testing import do_bench

from attnbench import Variant, Workload
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.inputs import make_inputs

LENGTHS = (512, 2048, 8192)
BLOCKS, BLOCK_NS = 12, 100e6


class Flash(Variant):
    """A variant that calls SDPA's flash backend directly."""

    name = "agreement-flash"

    def prepare(self, workload, inputs):
        """Return a callable that computes causal attention on the inputs."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        query, key, value = inputs.leaves

        def call():
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)

        return call


def median_ns(call, inputs, workload, mode):
    """Time `call` with the sampler in `cold` or `graph` mode, and return the median in ns."""
    sampler = Sampler(call, inputs, workload, "cuda:0", MeasureConfig(mode=mode))
    sampler.first_call()
    sampler.warm_up()
    return statistics.median(sample for _ in range(BLOCKS) for sample in sampler.block(BLOCK_NS).samples_ns)


def profiled_ns(call, calls=50):
    """Return the total kernel time per call in ns, measured by torch's profiler and averaged over `calls` calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(kernel.device_time_total for kernel in kernels) * 1e3 / calls


def main():
    """Print each comparison. Return 1 if the tools disagree in any of them, and 0 otherwise."""
    failed = 0
    for length in LENGTHS:
        workload = Workload(batch=4, heads=16, seq_q=length, head_dim=128, dtype="bfloat16", mask="causal")
        inputs = make_inputs(workload, "cuda:0")
        call = Flash().prepare(workload, inputs)
        pairs = (
            ("cold against do_bench", median_ns(call, inputs, workload, "cold"),
             do_bench(call, warmup=200, rep=2000, return_mode="median") * 1e6, 0.01),
            ("graph against profiler", median_ns(call, inputs, workload, "graph"), profiled_ns(call), 0.02),
        )  # fmt: skip
        for what, ours, theirs, tolerance in pairs:
            gap = ours / theirs - 1
            failed += abs(gap) > tolerance
            verdict = "ok" if abs(gap) <= tolerance else "DIFFER"
            print(f"{verdict:<7}{what} at {length}: {ours / 1e3:.2f} against {theirs / 1e3:.2f} us, {gap:+.2%}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
