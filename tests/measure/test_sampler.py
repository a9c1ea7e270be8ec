from __future__ import annotations

import pytest
import torch

from attnbench import Workload
from attnbench.measure.kernels import kernels_of
from attnbench.measure.memory import measure_memory
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.inputs import make_inputs


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
