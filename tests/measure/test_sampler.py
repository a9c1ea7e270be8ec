from __future__ import annotations

import pytest
import torch

from attnbench import Workload
from attnbench.measure.kernels import kernels_of
from attnbench.measure.memory import measure_memory, watch_peak
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.inputs import make_inputs


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL = Workload(heads=2, seq_q=16, head_dim=8)


def naive(inputs):
    """Return an attention callable that scales its scores in place."""

    def call():
        scores = (inputs.query @ inputs.key.transpose(-1, -2)).mul_(0.125)
        return scores.softmax(-1) @ inputs.value

    return call


def copied(output, grads):
    """Return copies of a whole result, as an excerpt for the sampler to keep."""
    return output.detach().clone(), grads and tuple(grad.clone() for grad in grads)


@pytest.mark.parametrize("direction", ["forward", "backward", "forward_backward"])
def test_each_direction_gives_samples_and_an_audited_result(direction):
    """A block contains positive samples, and its audited result is correct for the current inputs."""
    workload = Workload(heads=2, seq_q=64, head_dim=16, direction=direction)
    inputs = make_inputs(workload, "cpu")
    call = (
        naive(inputs) if direction == "forward" else lambda: (inputs.query @ inputs.key.mT).softmax(-1) @ inputs.value
    )
    sampler = Sampler(call, inputs, workload, "cpu", MeasureConfig(warm_up_max_s=0.1), excerpt=copied)
    assert sampler.first_call() > 0
    assert sampler.warm_up().ns_per_call > 0
    block = sampler.block(5e6)
    assert min(block.samples_ns) > 0
    output = call()
    kept_output, kept_grads = sampler.take_excerpts()[0]
    torch.testing.assert_close(kept_output, output.detach())
    if direction == "forward":
        assert kept_grads is None
    else:
        grads = torch.autograd.grad(output, inputs.leaves, inputs.grad_output)
        torch.testing.assert_close(kept_grads, tuple(grads))
    assert sampler.take_excerpts() == [], "the sampler keeps excerpts that were taken"


def test_peak_memory_of_naive_attention_is_exact():
    """The measured peak memory of naive attention is exactly the size of two score tensors and the output."""
    workload = Workload(heads=2, seq_q=256, head_dim=16)
    inputs = make_inputs(workload, "cpu")

    def call():
        scores = inputs.query @ inputs.key.transpose(-1, -2)
        weights = torch.softmax(scores, -1)
        return weights @ inputs.value

    call()
    scores, output = 2 * 256 * 256 * 4, 2 * 256 * 16 * 4
    assert measure_memory(call, inputs, workload, "cpu").peak_bytes == 2 * scores + output


def test_the_backend_of_sdpa_is_named():
    """The operators in a profiled SDPA call show which backend was used."""
    workload = Workload(heads=2, seq_q=64, head_dim=16)
    inputs = make_inputs(workload, "cpu")
    kernels = kernels_of(
        lambda: torch.nn.functional.scaled_dot_product_attention(*inputs.leaves), inputs, workload, "cpu"
    )
    assert kernels.backend == "flash"
    assert any("flash" in name for name in kernels.names)


class FakeAllocator:
    """A stand-in for the statistics of torch's allocator on CUDA: the allocated bytes, and their peak since a reset."""

    def __init__(self, monkeypatch):
        self.allocated = self.peak = 0
        replaced = {
            "memory_allocated": lambda device: self.allocated,
            "max_memory_allocated": lambda device: self.peak,
            "memory_reserved": lambda device: self.allocated,
            "max_memory_reserved": lambda device: self.peak,
            "reset_peak_memory_stats": self.reset,
            "synchronize": lambda device=None: None,
            "empty_cache": lambda: None,
        }
        for name, function in replaced.items():
            monkeypatch.setattr(torch.cuda, name, function)

    def reset(self, device):
        """Forget the peak."""
        self.peak = self.allocated

    def use(self, size):
        """Allocate and free `size` bytes."""
        self.peak = max(self.peak, self.allocated + size)


@pytest.mark.parametrize(("checks", "expected"), [(2_500, 1_500), (700, 0)])
def test_the_memory_of_the_harness_is_told_apart_on_cuda(checks, expected, monkeypatch):
    """`harness_bytes` is the memory by which the peak of a whole cell exceeds the peak of one call."""
    allocator = FakeAllocator(monkeypatch)
    allocator.use(9_000)  # a compiler's work in the first call counts for neither
    allocator.allocated = 4_000  # the inputs
    inputs = make_inputs(SMALL, "cpu")

    def call():
        allocator.use(1_000)
        return inputs.value.clone()

    watch_peak("cuda:0")
    allocator.use(checks)
    memory = measure_memory(call, inputs, SMALL, "cuda:0")
    assert (memory.peak_bytes, memory.harness_bytes) == (1_000, expected)


def test_the_memory_of_the_harness_is_unknown_on_a_cpu():
    """On a CPU, `harness_bytes` is None, because only a profiled call has a known peak."""
    inputs = make_inputs(SMALL, "cpu")
    watch_peak("cpu")
    assert measure_memory(naive(inputs), inputs, SMALL, "cpu").harness_bytes is None
