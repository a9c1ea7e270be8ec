"""Rules for answers under dropout that hold whichever weights are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer
from attnbench.reference import Part, evaluate, in_bhsd

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

MAX_STANDARD_ERRORS = 6.0  # a mean over draws may be off by at most this many standard errors
SUM_TOLERANCE = 0.02  # relative difference allowed between two sums that should be equal
RULE_MEAN = "dropout: the output's mean over draws is the output without dropout (kept weights are divided by 1-p)"
RULE_NOISE = "dropout: the variance of the output is that of dropping weights with probability p"
RULE_MASK = "dropout: <dO, O> = <dV, V>, which holds if backward drops the same weights as forward"
RULE_SCORES = "dropout: <dQ, Q> = <dK, K>, which holds if dQ and dK come from the same dropped weights"


def any_draw(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> AccuracyResult:
    """Judge an answer under dropout by rules that hold whichever weights are dropped, and return the worst result."""
    results = [*_forward(workload, inputs, answer, part)]
    gradients = answer.gradients
    if gradients is not None and all(gradient is not None for gradient in gradients):
        results += _backward(inputs, answer)
    return max(results, key=lambda result: float("inf") if result.worst_ratio is None else result.worst_ratio)


def _forward(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> list[AccuracyResult]:
    """Judge the mean and the noise of the output.

    Each row is fitted as a factor times the reference's row. The factors must be 1 on average, and the differences from
    the reference must have the variance that dropout causes.
    """
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
        RULE_MEAN,
        off / (MAX_STANDARD_ERRORS * error + SUM_TOLERANCE / 2),
        f"the mean factor is {float(factor.mean()):.4g}, expected 1",
    )
    if factor.numel() < 32:
        return [mean]
    expected = torch.stack(expected_noise).sum()
    ratio = float(torch.stack(noise).sum() / expected)
    variance = float(torch.stack(squared_noise).sum() / expected.square()) * _variance_of_draw(workload.dropout)
    slack = MAX_STANDARD_ERRORS * variance**0.5
    # With a large slack, a ratio below 1 may be due to chance, so it is not a deviation.
    off = max(ratio, 1 / max(ratio, 1e-9)) if slack < 1 else ratio
    return [mean, _result(RULE_NOISE, off / (2 + slack), f"its variance is {ratio:.3g} times the expected one")]


def _variance_of_draw(rate: float) -> float:
    """Return the relative variance of one weight's squared noise.

    At a dropout rate of p, the noise is 1/(1-p) - 1 if the weight is kept, and -1 if it is dropped. The relative
    variance is the variance divided by the square of the mean.
    """
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
            _result(
                rule,
                off / (SUM_TOLERANCE * size) if size else 0.0,
                f"the sums are {float(left.sum()):.6g} and {float(right.sum()):.6g}",
            )
        )
    return results


def _result(rule: str, ratio: float, found: str) -> AccuracyResult:
    return AccuracyResult(rule, ratio, None, f"{rule}; {found}" if ratio > 1 else None)
