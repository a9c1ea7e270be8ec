"""Interleaved timing: what is compared runs turn by turn, so that both meet the same noise."""

import statistics
import time

import pytest
import torch

from attnbench.tensors.inputs import make_inputs

ROUNDS = 7


def _prepared(variant, workload, seed=0):
    """Give a callable that does the workload's whole direction once."""
    inputs = make_inputs(workload, "cpu", variant.layout, seed)
    call = variant.prepare(workload, inputs)
    if not workload.needs_gradient:
        return call
    return lambda: torch.autograd.grad(call(), inputs.leaves, inputs.grad_output)


@pytest.fixture
def prepared():
    """Prepare a variant for a workload."""
    return _prepared


@pytest.fixture
def speedup(benchmark):
    """Time a callable against a baseline, turn by turn; gives the median of baseline's time over the callable's."""

    def measure(subject, baseline):
        seconds = []

        def turn():
            started = time.perf_counter()
            baseline()
            seconds.append(time.perf_counter() - started)

        benchmark.pedantic(subject, setup=turn, rounds=ROUNDS, warmup_rounds=1)
        pairs = zip(seconds[-ROUNDS:], benchmark.stats.stats.data, strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        benchmark.extra_info["speedup"] = ratio
        print(f"\n{benchmark.name}: {ratio:.2f} times as fast")
        return ratio

    return measure
