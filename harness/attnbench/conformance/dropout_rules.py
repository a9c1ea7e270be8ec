"""Rules for answers under dropout that hold whichever weights are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer
from attnbench.conformance.gradient_sums import OF_KEYS, OF_VALUES, gradient_sums, judge_sums
from attnbench.reference import Part, evaluate

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

MAX_STANDARD_ERRORS = 6.0  # a mean over draws may be off by at most this many standard errors
# With few weights, the mean changes by leaps, and may be off by this many times the largest leap of a single weight in
# addition (Bernstein's inequality, for a probability of about 1e-8).
MAX_LEAPS = 6.4
SUM_TOLERANCE = 0.02  # relative difference allowed between two sums that should be equal
# Each weight is multiplied by 0 or by 1/(1-p), so no draw leaves the output unchanged. The variance of the output is at
# least this share of the least that the rate allows, unless values of few dimensions cancel out by chance.
LEAST_SHARE, LEAST_DIMENSIONS = 0.1, 8
RULE_MEAN = "dropout: the output's mean over draws is the output without dropout (kept weights are divided by 1-p)"
RULE_NOISE = "dropout: the variance of the output is that of dropping weights with probability p"
RULE_DROPPED = "dropout: the output differs from the output without dropout, whichever weights are dropped"
RULE_MASK = f"dropout: {OF_VALUES}, which holds if backward drops the same weights as forward"
RULE_SCORES = f"dropout: {OF_KEYS}, which holds if dQ and dK come from the same dropped weights"


def any_draw(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> AccuracyResult:
    """Judge an answer under dropout by rules that hold whichever weights are dropped, and return the worst result."""
    results = [*_forward(workload, inputs, answer, part)]
    gradients = answer.gradients
    if gradients is not None and all(gradient is not None for gradient in gradients):
        sums = gradient_sums(workload, inputs, answer, answer.part or Part.whole(workload))
        results += judge_sums(sums, (RULE_MASK, RULE_SCORES), SUM_TOLERANCE)
    return max(results, key=lambda result: float("inf") if result.worst_ratio is None else result.worst_ratio)


def _forward(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> list[AccuracyResult]:
    """Judge the mean and the noise of the output.

    Each row is fitted as a factor times the reference's row. The factors must be 1 on average, and the differences from
    the reference must have the variance that dropout causes.
    """
    factors, variances, leaps, noise, expected_noise, squared_noise = [], [], [], [], [], []
    spread = workload.dropout / (1 - workload.dropout)
    for piece in evaluate(workload, inputs, part):
        place = piece if answer.part is None else piece.within(answer.part)
        got, right = place.of_queries(answer.output).double(), piece.attention.output
        size = right.square().sum(-1)
        counted = size > 0
        factors.append(((got * right).sum(-1)[counted] / size[counted]).flatten())
        shares = (piece.attention.weights * (right @ piece.value.mT))[counted] / size[counted][:, None]
        variances.append(spread * shares.square().sum())
        leaps.append(shares.abs().max() if shares.numel() else shares.new_zeros(()))
        noise.append((got - right).square().sum())
        of_weight, of_value = piece.attention.weights.square(), piece.value.square().sum(-1, keepdim=True)
        expected_noise.append(spread * (of_weight @ of_value).sum())
        squared_noise.append(spread**2 * (of_weight.square() @ of_value.square()).sum())
    if not factors or not (factor := torch.cat(factors)).numel():
        return [AccuracyResult(RULE_MEAN)]
    if not factor.isfinite().all():
        return [AccuracyResult(RULE_MEAN, None, None, f"{RULE_MEAN}: the output holds NaN or Inf")]
    error = float(torch.stack(variances).sum().sqrt()) / factor.numel()
    leap = max(1.0, spread) * float(torch.stack(leaps).max()) / factor.numel()
    off = abs(float(factor.mean()) - 1)
    mean = _result(
        RULE_MEAN,
        off / (MAX_STANDARD_ERRORS * error + MAX_LEAPS * leap + SUM_TOLERANCE / 2),
        f"the mean factor is {float(factor.mean()):.4g}, expected 1",
    )
    expected = torch.stack(expected_noise).sum()
    ratio = float(torch.stack(noise).sum() / expected)
    if workload.head_dim_v >= LEAST_DIMENSIONS:
        least = LEAST_SHARE * min(spread, 1 / spread)
        mean = max(mean, _dropped(least / max(ratio, 1e-9), ratio), key=lambda result: result.worst_ratio or 0.0)
    if factor.numel() < 32:
        return [mean]
    variance = float(torch.stack(squared_noise).sum() / expected.square()) * _variance_of_draw(workload.dropout)
    slack = MAX_STANDARD_ERRORS * variance**0.5
    # With a large slack, a ratio below 1 may be due to chance, so it is not a deviation.
    off = max(ratio, 1 / max(ratio, 1e-9)) if slack < 1 else ratio
    return [mean, _result(RULE_NOISE, off / (2 + slack), f"its variance is {ratio:.3g} times the expected one")]


def _dropped(excess: float, ratio: float) -> AccuracyResult:
    return _result(RULE_DROPPED, excess, f"its variance is {ratio:.3g} times that of dropout: dropout is ignored")


def _variance_of_draw(rate: float) -> float:
    """Return the relative variance of one weight's squared noise.

    At a dropout rate of p, the noise is 1/(1-p) - 1 if the weight is kept, and -1 if it is dropped. The relative
    variance is the variance divided by the square of the mean.
    """
    kept = rate / (1 - rate)
    return (rate + (1 - rate) * kept**4) / kept**2 - 1


def _result(rule: str, ratio: float, found: str) -> AccuracyResult:
    return AccuracyResult(rule, ratio, None, f"{rule}; {found}" if ratio > 1 else None)
