"""What the tests of variants share: running one, and the answer that it should give."""

import math

import pytest
import torch

from attnbench.inputs import make_inputs


def _visible(workload):
    """Read each sequence's visible keys off the workload's rule, (B, 1, Sq, Sk) bool."""
    visible = torch.zeros((workload.batch, 1, workload.seq_q, workload.seq_k), dtype=torch.bool)
    for sequence in range(workload.batch):
        for row, keys in enumerate(workload.visible_keys(sequence)):
            visible[sequence, 0, row, keys.start : max(keys.start, keys.stop)] = True
    return visible


def _dense(workload, inputs):
    """Attend in float64 by the definition; dropout is not known here."""
    query, key, value = (tensor.detach().double() for tensor in inputs.leaves)
    if inputs.layout == "BSHD":
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    query, key, value = leaves
    group = workload.heads // workload.kv_heads
    scores = query @ key.repeat_interleave(group, 1).mT * workload.effective_scale
    if workload.softcap is not None:
        scores = workload.softcap * torch.tanh(scores / workload.softcap)
    if workload.alibi:
        distance = torch.arange(workload.seq_q)[:, None] + workload.seq_k - workload.seq_q
        distance = (distance - torch.arange(workload.seq_k)).abs()
        scores = scores - inputs.alibi_slopes.double()[:, None, None] * distance
    visible = _visible(workload)
    weights = scores.masked_fill(~visible, -1e9).softmax(-1) * visible
    output = weights @ value.repeat_interleave(group, 1)
    if inputs.grad_output is None:
        grads = ()
    else:
        grad = inputs.grad_output if inputs.layout == "BHSD" else inputs.grad_output.transpose(1, 2)
        grads = torch.autograd.grad(output, leaves, grad.double())
    answers = [output.detach(), *grads]
    return answers if inputs.layout == "BHSD" else [answer.transpose(1, 2) for answer in answers]


def _run(variant, workload, seed=0):
    """Give inputs, and the variant's output and gradients on them."""
    inputs = make_inputs(workload, "cpu", variant.layout, seed)
    output = variant.prepare(workload, inputs)()
    grads = ()
    if workload.needs_gradient:
        grads = torch.autograd.grad(output, inputs.leaves, inputs.grad_output)
    return inputs, [output.detach(), *grads]


@pytest.fixture
def run():
    """Run a variant on a workload: inputs, and [output, *gradients]."""
    return _run


@pytest.fixture
def assert_exact():
    """Assert that a variant gives what the definition gives, to its dtype's precision, and exact 0 for blind rows."""

    def check(variant, workload):
        assert variant.unsupported_reason(workload, "cpu") is None
        inputs, answers = _run(variant, workload)
        blind = ~_visible(workload).any(-1, keepdim=True)
        for index, (answer, expected) in enumerate(zip(answers, _dense(workload, inputs), strict=True)):
            assert answer.dtype == inputs.query.dtype
            assert answer.shape == expected.shape
            slack = 30 * torch.finfo(answer.dtype).eps if variant.tier == "plain" else 3 * torch.finfo(answer.dtype).eps
            slack = 1e-5 if answer.dtype == torch.float32 else slack
            error = (answer.double() - expected).norm() / max(1e-9, expected.norm().item() or math.inf)
            assert error <= slack, f"answer {index}: relative error {error:.2e}"
            if index < 2:  # output and the queries' gradient
                rows = answer if inputs.layout == "BHSD" else answer.transpose(1, 2)
                assert not rows.masked_select(blind).any()

    return check
