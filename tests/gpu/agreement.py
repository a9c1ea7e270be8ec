"""Compare attnbench's timings with those of other tools, and exit with status 1 if they disagree.

The median of cold timings must agree within 1% with that of triton.testing.do_bench, which also flushes the cache. The
time of a replayed CUDA graph must agree within 2% with the sum of the kernel times that torch's profiler measures. Both
comparisons are made at two sequence lengths.
"""

import statistics
import sys
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from triton.testing import do_bench

from attnbench import Workload
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.inputs import make_inputs

LENGTHS = (512, 8192)
BLOCKS, BLOCK_NS = 12, 100e6
WARM_UP_MS, REPEAT_MS = 200, 1500  # of do_bench


def torch_name(device):
    """Return the name of the first device of a kind, as a worker uses it."""
    return "cuda:0" if device == "cuda" else device


def prepared(length, device):
    """Return a causal workload of this length, its inputs, and a callable that attends to them."""
    heads, dtype = (16, "bfloat16") if device == "cuda" else (1, "float32")
    workload = Workload(batch=4, heads=heads, seq_q=length, head_dim=128, dtype=dtype, mask="causal")
    inputs = make_inputs(workload, torch_name(device))
    return workload, inputs, partial(scaled_dot_product_attention, *inputs.leaves, is_causal=True)


def median_ns(call, inputs, workload, device, mode, blocks=BLOCKS):
    """Time `call` with the sampler in the given mode, and return the median in ns."""
    sampler = Sampler(call, inputs, workload, torch_name(device), MeasureConfig(mode=mode))
    sampler.first_call()
    sampler.warm_up()
    return statistics.median(sample for _ in range(blocks) for sample in sampler.block(BLOCK_NS).samples_ns)


def profiled_ns(call, calls=50):
    """Return the total kernel time per call in ns, measured by torch's profiler and averaged over `calls` calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(kernel.device_time_total for kernel in kernels) * 1e3 / calls


def main(device):
    """Print each comparison. Return 1 if the tools disagree in any of them, and 0 otherwise."""
    if device != "cuda":
        print("not compared: do_bench and CUDA graphs need a GPU")
        return 0
    failed = 0
    for length in LENGTHS:
        workload, inputs, call = prepared(length, device)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            cold = median_ns(call, inputs, workload, device, "cold")
            benched = do_bench(call, warmup=WARM_UP_MS, rep=REPEAT_MS, return_mode="median") * 1e6
            graph = median_ns(call, inputs, workload, device, "graph")
            kernels = profiled_ns(call)
        failed += compare(f"cold against do_bench at {length}", cold, benched, 0.01)
        failed += compare(f"graph against profiler at {length}", graph, kernels, 0.02)
    return 1 if failed else 0


def compare(what, ours, theirs, tolerance):
    """Print two times in us and their difference, and return whether it exceeds the tolerance."""
    gap = ours / theirs - 1
    verdict = "ok" if abs(gap) <= tolerance else "DIFFER"
    print(f"{verdict:<7}{what}: {ours / 1e3:.2f} against {theirs / 1e3:.2f} us, {gap:+.2%}")
    return abs(gap) > tolerance


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
