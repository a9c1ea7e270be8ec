"""Fixtures for interleaved timing: two callables take turns, so that the same noise affects both."""

import statistics
import time

import pytest
import torch

from attnbench.tensors.inputs import make_inputs

ROUNDS = 7


def _prepared(variant, workload, seed=0):
    """Return a callable that runs the variant once on the workload, in the workload's direction."""
    inputs = make_inputs(workload, "cpu", variant.layout, seed)
    call = variant.prepare(workload, inputs)
    if not workload.needs_gradient:
        return call
    return lambda: torch.autograd.grad(call(), inputs.leaves, inputs.grad_output)


@pytest.fixture
def prepared():
    """Return a function that prepares a variant for a workload."""
    return _prepared


@pytest.fixture
def speedup(benchmark):
    """Return a function that times a callable and a baseline alternately and returns the callable's median speed-up."""

    def measure(subject, baseline):
        seconds = []

        def time_baseline():
            started = time.perf_counter()
            baseline()
            seconds.append(time.perf_counter() - started)

        benchmark.pedantic(subject, setup=time_baseline, rounds=ROUNDS, warmup_rounds=1)
        pairs = zip(seconds[-ROUNDS:], benchmark.stats.stats.data, strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        benchmark.extra_info["speedup"] = ratio
        print(f"\n{benchmark.name}: {ratio:.2f} times as fast")
        return ratio

    return measure
