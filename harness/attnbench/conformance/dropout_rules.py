"""Rules that hold for dropout whichever weights were drawn: its scale, its rate, and one mask for both passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer
from attnbench.reference import Part, evaluate, in_bhsd

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

DEVIATIONS = 6.0  # standard errors by which a mean over draws may be off
SAME = 0.02  # relative difference allowed between two sums that are equal up to rounding
RULE_MEAN = "dropout: the output's mean over draws is the output without dropout (weights are divided by 1-p)"
RULE_NOISE = "dropout: the output varies as weights dropped with probability p make it vary"
RULE_MASK = "dropout: <dO, O> = <dV, V>, which holds if backward drops the same weights as forward"
RULE_SCORES = "dropout: <dQ, Q> = <dK, K>, which holds if dQ and dK come from the same dropped weights"


def any_draw(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> AccuracyResult:
    """Judge an answer under dropout by the rules that hold for any draw; return the result of the worst one."""
    results = [*_forward(workload, inputs, answer, part)]
    gradients = answer.gradients
    if gradients is not None and all(gradient is not None for gradient in gradients):
        results += _backward(inputs, answer)
    return max(results, key=lambda result: float("inf") if result.worst_ratio is None else result.worst_ratio)


def _forward(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> list[AccuracyResult]:
    """Regress each row of the output on the reference: the factor is 1 on average, and the residual is noise."""
    factors, noise, expected_noise, squared_noise = [], [], [], []
    spread = workload.dropout / (1 - workload.dropout)
    for piece in evaluate(workload, inputs, part):
        got, right = piece.of_queries(answer.output).double(), piece.attention.output
        size = right.square().sum(-1)
        counted = size > 0
        factors.append(((got * right).sum(-1)[counted] / size[counted]).flatten())
        noise.append((got - right).square().sum())
        of_weight, of_value = piece.attention.weights.square(), piece.value.square().sum(-1, keepdim=True)
        expected_noise.append(spread * (of_weight @ of_value).sum())
        squared_noise.append(spread**2 * (of_weight.square() @ of_value.square()).sum())
    if not factors or not (factor := torch.cat(factors)).numel():
        return [AccuracyResult(RULE_MEAN)]
    if not factor.isfinite().all():
        return [AccuracyResult(RULE_MEAN, None, None, f"{RULE_MEAN}: the output holds NaN or Inf")]
    error = float(factor.std() / factor.numel() ** 0.5) if factor.numel() > 1 else 1.0
    off = abs(float(factor.mean()) - 1)
    mean = _result(
        RULE_MEAN, off / (DEVIATIONS * error + SAME / 2), f"the mean factor is {1 + off:.4g} or {1 - off:.4g}"
    )
    if factor.numel() < 32:
        return [mean]
    expected = torch.stack(expected_noise).sum()
    ratio = float(torch.stack(noise).sum() / expected)
    variance = float(torch.stack(squared_noise).sum() / expected.square()) * _variance_of_draw(workload.dropout)
    slack = DEVIATIONS * variance**0.5
    off = max(ratio, 1 / max(ratio, 1e-9)) if slack < 1 else ratio  # with few draws, all weights may be kept by chance
    return [mean, _result(RULE_NOISE, off / (2 + slack), f"its variance is {ratio:.3g} times that")]


def _variance_of_draw(rate: float) -> float:
    """Return the relative variance of the square of the noise that one draw adds: (0 or 1/(1-p)) - 1."""
    kept = rate / (1 - rate)
    return (rate + (1 - rate) * kept**4) / kept**2 - 1


def _backward(inputs: Inputs, answer: Answer) -> list[AccuracyResult]:
    """Compare sums that are equal if all gradients come from the weights that the forward pass kept."""
    if inputs.grad_output is None or answer.gradients is None:
        return []
    query, key, value, grad_output = (
        in_bhsd(tensor.detach(), inputs.layout).double() for tensor in (*inputs.leaves, inputs.grad_output)
    )
    of_query, of_key, of_value = (gradient.double() for gradient in answer.gradients if gradient is not None)
    pairs = (
        (RULE_MASK, grad_output * answer.output.double(), of_value * value),
        (RULE_SCORES, of_query * query, of_key * key),
    )
    results = []
    for rule, left, right in pairs:
        size = float((left.square().sum() + right.square().sum()).sqrt())
        off = abs(float(left.sum() - right.sum()))
        results.append(
            _result(rule, off / (SAME * size) if size else 0.0, f"{float(left.sum()):.6g} and {float(right.sum()):.6g}")
        )
    return results


def _result(rule: str, ratio: float, found: str) -> AccuracyResult:
    return AccuracyResult(rule, ratio, None, f"{rule}; {found}" if ratio > 1 else None)
