from __future__ import annotations

import pytest
import torch

from attnbench import Mask, Workload
from attnbench.conformance.accuracy import Answer
from attnbench.conformance.gradient_sums import gradient_sums, judge_sums
from attnbench.reference import Part
from attnbench.tensors.inputs import make_inputs

WORKLOAD = Workload(4, 24, 8, batch=2, kv_heads=2, softcap=20.0, mask=Mask("causal"), direction="forward_backward")
RULES = ("values", "keys")


@pytest.fixture
def answered():
    """Return inputs and the reference's answer."""
    inputs = make_inputs(WORKLOAD, "cpu")
    leaves = [leaf.detach().double().requires_grad_() for leaf in inputs.leaves]
    key, value = (leaf.repeat_interleave(2, 1) for leaf in leaves[1:])
    scores = 20.0 * torch.tanh(leaves[0] @ key.mT * WORKLOAD.effective_scale / 20.0)
    weights = scores.masked_fill(torch.ones(24, 24).triu(1).bool(), -torch.inf).softmax(-1)
    output = weights @ value
    return inputs, Answer(output.detach(), torch.autograd.grad(output, leaves, inputs.grad_output.double()))


def test_the_sums_of_correct_gradients_are_equal(answered):
    """Both rules hold for each key head, with grouped heads, a mask and a softcap."""
    for part in (Part.whole(WORKLOAD), Part((1,), (0,), ()), Part((0,), (1,), ())):
        sums = gradient_sums(WORKLOAD, *answered, part)
        torch.testing.assert_close(sums[:, 0], sums[:, 1])
        assert all(result.passed for result in judge_sums(sums, RULES, 1e-6))


@pytest.mark.parametrize(("wrong", "rule"), [(1, "keys"), (2, "values")])
def test_a_wrong_gradient_breaks_its_rule(answered, wrong, rule):
    """If dK or dV is that of another head, the rule for it is broken, and the reason gives both sums."""
    inputs, answer = answered
    gradients = list(answer.gradients)
    gradients[wrong] = gradients[wrong].roll(1, 1)
    sums = gradient_sums(WORKLOAD, inputs, Answer(answer.output, tuple(gradients)), Part((0,), (0,), ()))
    (broken,) = [result for result in judge_sums(sums, RULES, 0.02) if not result.passed]
    assert broken.rule == rule
    assert "the sums are" in broken.reason


def test_an_answer_of_a_part_has_the_sums_of_that_part(answered):
    """An answer that contains only some sequences and heads has the same sums as these have in the whole answer."""
    inputs, answer = answered
    part = Part((1,), (1,), tuple(range(24)))
    some = Answer(
        answer.output[1:, 2:], tuple(gradient[1:, -gradient.shape[1] // 2 :] for gradient in answer.gradients), part
    )
    expected = gradient_sums(WORKLOAD, inputs, answer, part)
    torch.testing.assert_close(gradient_sums(WORKLOAD, inputs, some, part), expected)


def test_sums_that_are_not_finite_are_not_judged():
    """NaN and Inf are found by other rules, so they break none here."""
    sums = torch.tensor([[torch.nan, 1.0, torch.nan], [torch.inf, 1.0, torch.inf]], dtype=torch.float64)
    assert all(result.passed for result in judge_sums(sums, RULES, 0.02))
