"""One test per cell, which checks the variant's result and times the variant."""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnbench.benchmarks.options import CELLS
from attnbench.conformance.cuda_errors import gpu_failure
from attnbench.conformance.layer_gate import gate_of
from attnbench.device_names import device_type
from attnbench.machine.telemetry import telemetry_for
from attnbench.measure.call import DirectionCall
from attnbench.measure.clock import clock_for, gpu_uuid
from attnbench.plugins.loading import variant_of
from attnbench.stats.disturbance import DISTURBED, block_warning
from attnbench.tensors.prepared_call import prepare_call

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.workloads.workload import Workload

SEED = 0
WARM_UP_CALLS = 5
MAX_BACKWARD_ROUNDS = 1000  # limited because each round also runs an untimed forward pass


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate one test per cell. The tests' parameters can be used in `--benchmark-group-by=param:NAME`."""
    cells = metafunc.config.stash[CELLS]
    metafunc.parametrize(
        ("device", "workload", "variant"),
        [
            pytest.param(
                device,
                workload,
                variant,
                id=f"{variant}-{workload}-{device}",
                marks=pytest.mark.benchmark(group=f"{workload} on {device}", timer=_timer(torch_name)),
            )
            for device, torch_name in cells.devices.items()
            for workload in cells.workloads
            for variant in cells.variants
        ],
    )


def test_attention(benchmark: Any, request: pytest.FixtureRequest, device: str, workload: str, variant: str) -> None:
    """The variant's result for the workload is correct before and after the timing."""
    cells = request.config.stash[CELLS]
    if (failure := gpu_failure()) is not None:
        pytest.skip(f"an earlier test left the GPU unusable in this process: {failure}")
    entry, problem, device = cells.variants[variant], cells.workloads[workload], cells.devices[device]
    implementation = variant_of(entry.source, variant)
    if reason := implementation.unsupported_reason(problem.attention, device_type(device)):
        pytest.skip(reason)
    if device_type(device) == "cuda":
        torch.cuda.set_device(device)
    with implementation.calling_context():
        inputs, call = prepare_call(implementation, problem, device, SEED)
        gate = gate_of(implementation, problem, inputs, call, SEED)
        before = gate.before()
        if not before.passed:
            pytest.fail(f"wrong before the timing: {before.reason}", pytrace=False)
        telemetry = telemetry_for(device, gpu_uuid)
        telemetry.start()
        _time(benchmark, DirectionCall(call, inputs, problem), problem)
        state = telemetry.read()
        after = gate.after()
    benchmark.has_error = not after.passed  # pytest-benchmark does not save the time of a test with an error
    if not after.passed:
        pytest.fail(f"wrong after the timing: {after.reason}", pytrace=False)
    benchmark.extra_info.update(_facts(benchmark, entry, problem, device), **before.to_json())
    benchmark.extra_info["throttle"] = state.get("throttle", [])
    if warning := block_warning(variant, state):
        benchmark.extra_info[DISTURBED] = warning
        warnings.warn(f"no verdict: {warning}", RuntimeWarning, stacklevel=1)


def _time(benchmark: Any, direction_call: DirectionCall, workload: Workload) -> None:
    if workload.direction != "backward":
        for ready in direction_call.prepare(WARM_UP_CALLS):
            ready()
        benchmark(direction_call.prepare()[0])
        return
    begun = time.perf_counter()
    for ready in direction_call.prepare(WARM_UP_CALLS):
        ready()
    seconds_per_call = (time.perf_counter() - begun) / WARM_UP_CALLS
    rounds = math.ceil(benchmark._max_time / seconds_per_call)  # noqa: SLF001 - the value of --benchmark-max-time
    benchmark.pedantic(
        lambda ready: ready(),
        setup=lambda: ((direction_call.prepare()[0],), {}),  # runs the forward pass, which is not timed
        rounds=min(MAX_BACKWARD_ROUNDS, max(benchmark._min_rounds, rounds)),  # noqa: SLF001 - the value of --benchmark-min-rounds
    )


def _facts(benchmark: Any, entry: VariantEntry, workload: Workload, device: str) -> dict[str, Any]:
    cuda = device_type(device) == "cuda"
    facts = {
        "plugin": entry.plugin,
        "plugin_sha256": entry.sha256,
        **{f"workload_{name}": value for name, value in workload.to_json().items()},
        "flops": workload.flops(),
        "bytes": workload.bytes(),
        "device_name": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if benchmark.stats is not None:  # with --benchmark-disable there are no statistics
        facts["tflops"] = workload.flops() / benchmark.stats.stats.median / 1e12
    return facts


def _timer(device: str) -> Callable[[], float]:
    """Return a timer that waits for the device to finish its work and then returns the time in seconds."""
    # The clock is created on its first use, so that collecting the tests does not initialise a GPU.
    clock = functools.cache(lambda: clock_for(device))

    def synchronised() -> float:
        clock().synchronise()
        return clock().now() / 1e9

    return synchronised
