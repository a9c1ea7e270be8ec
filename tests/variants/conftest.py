"""Fixtures that run a variant or check its results with the gate."""

import pytest
import torch

from attnbench.conformance.gate import Gate
from attnbench.tensors.inputs import make_inputs


@pytest.fixture
def run():
    """Return a function that runs a variant on a workload and returns the inputs and [output, *gradients]."""

    def once(variant, workload):
        inputs = make_inputs(workload, "cpu", variant.layout)
        with variant.calling_context():
            output = variant.prepare(workload, inputs)()
        grads = ()
        if workload.needs_gradient:
            grads = torch.autograd.grad(output, inputs.leaves, inputs.grad_output)
        return inputs, [output.detach(), *grads]

    return once


@pytest.fixture
def assert_passes():
    """Return a function that asserts that a variant supports a workload and passes the gate."""

    def check(variant, workload):
        assert variant.unsupported_reason(workload, "cpu") is None
        inputs = make_inputs(workload, "cpu", variant.layout)
        with variant.calling_context():
            verdict = Gate(variant, workload, inputs, variant.prepare(workload, inputs), seed=0).before()
        assert verdict.passed, f"{verdict.rule}: {verdict.worst_ratio} {verdict.reason}"

    return check
