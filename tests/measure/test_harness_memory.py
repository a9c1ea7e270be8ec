"""The memory that the harness needs for a cell, beside that of the variant."""

from itertools import accumulate

import pytest
import torch
from fake_device import FakeDevice

from attnbench import Mask, Variant, Workload
from attnbench.conformance.layer_gate import gate_of
from attnbench.machine.telemetry import NoTelemetry
from attnbench.measure import sampler as sampler_module
from attnbench.measure.kernels import MEMORY, profiled
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.plan.memory_frontier import least_bytes
from attnbench.tensors.prepared_call import prepare_call
from attnbench.worker.cell import OpenCell

# Each row sees only the key at its own position, so attention returns the values, and a call needs no memory but that
# of its results. Inputs and output have 128 MiB.
LARGE = {"heads": 16, "seq_q": 8192, "head_dim": 64, "mask": Mask("window", left=0, right=0)}
BLOCKS = 3  # enough that the audit both holds and frees outputs, and keeps excerpts of plain calls
CALL_NS = 100_000.0


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        return value.clone()

    @staticmethod
    def backward(ctx, grad_output):
        return torch.zeros_like(grad_output), torch.zeros_like(grad_output), grad_output.clone()


class Own(Variant):
    """Attention for the workloads in this module, which allocates nothing but its results."""

    name = "own"

    def prepare(self, workload, inputs):
        return lambda: _Own.apply(*inputs.leaves)


class OwnBshd(Own):
    """The same variant with the layout BSHD."""

    layout = "BSHD"


@pytest.fixture(autouse=True)
def single_thread():
    """Run torch on one thread, because other tests may use the other cores at the same time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def whole_cell(variant, workload, device):
    """Return a callable that opens a cell, times some blocks on a fake device, and checks the answers at the end."""

    def run():
        inputs, call = prepare_call(variant, workload, "cpu", 0)

        def timed():
            device.call(CALL_NS)
            return call()

        gate = gate_of(variant, workload, inputs, timed, 0)
        config = MeasureConfig(warm_up_min_s=0.0, warm_up_max_s=CALL_NS / 1e9)
        sampler = Sampler(
            timed, inputs, workload, "cpu", config, excerpt=gate.excerpt, clock=device, telemetry=NoTelemetry()
        )
        cell = OpenCell(lambda phase: None, workload, "cpu", inputs, timed, gate, sampler)
        replies = [cell.open(), *(cell.block(6 * CALL_NS) for _ in range(BLOCKS))]
        verdict = gate.after()
        assert verdict.passed, verdict.reason
        return replies

    return run


@pytest.mark.parametrize("variant", [Own(), OwnBshd()], ids=lambda each: each.layout)
@pytest.mark.parametrize("direction", ["forward", "forward_backward"])
def test_a_cell_needs_little_memory_beside_inputs_and_results(variant, direction, monkeypatch):
    """The peak of a cell, with gate and audit, is at most 1.25 times the inputs and the results of a call."""
    workload = Workload(**LARGE, direction=direction)
    device = FakeDevice(asynchronous=False)
    monkeypatch.setattr(sampler_module, "raw_now", lambda: int(device.host))
    monkeypatch.setattr(sampler_module, "LEAD_IN_NS", CALL_NS)
    replies, events = profiled(whole_cell(variant, workload, device), device="cpu", memory=True)
    assert {type(reply).__name__ for reply in replies} == {"OpenReply", "Block"}
    peak = max(accumulate(event.bytes for event in events if event.name == MEMORY))
    assert least_bytes(workload) <= peak <= 1.25 * least_bytes(workload), peak / least_bytes(workload)
