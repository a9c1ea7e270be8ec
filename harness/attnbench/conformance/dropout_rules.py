"""Rules for answers under dropout that hold whichever weights are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer
from attnbench.reference import PIECE_ELEMENTS, Part, evaluate, in_bhsd

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        results += _backward(workload, inputs, answer)
    return max(results, key=lambda result: float("inf") if result.worst_ratio is None else result.worst_ratio)


def _forward(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> list[AccuracyResult]:
    """Judge the mean and the noise of the output.

    Each row is fitted as a factor times the reference's row. The factors must be 1 on average, and the differences from
    the reference must have the variance that dropout causes.
    """
    factors, noise, expected_noise, squared_noise = [], [], [], []
    spread = workload.dropout / (1 - workload.dropout)
    for piece in evaluate(workload, inputs, part):
        place = piece if answer.part is None else piece.within(answer.part)
        got, right = place.of_queries(answer.output).double(), piece.attention.output
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


def _backward(workload: Workload, inputs: Inputs, answer: Answer) -> list[AccuracyResult]:
    """Compare sums that are equal if all gradients come from the weights that the forward pass kept.

    The sums are equal for each key head with its query heads, so an answer that contains only some heads can be judged.
    """
    if inputs.grad_output is None or answer.gradients is None:
        return []
    sums = torch.zeros(2, 3, dtype=torch.float64, device=answer.output.device)  # of each rule: left, right, squares
    for query, key, value, grad_output, output, of_query, of_key, of_value in _by_heads(workload, inputs, answer):
        pairs = ((grad_output * output, of_value * value), (of_query * query, of_key * key))
        sums += torch.stack(
            [
                torch.stack([left.sum(), right.sum(), left.square().sum() + right.square().sum()])
                for left, right in pairs
            ]
        )
    results = []
    for rule, (left, right, squares) in zip((RULE_MASK, RULE_SCORES), sums.tolist(), strict=True):
        ratio = abs(left - right) / (SUM_TOLERANCE * squares**0.5) if squares else 0.0
        results.append(_result(rule, ratio, f"the sums are {left:.6g} and {right:.6g}"))
    return results


def _by_heads(workload: Workload, inputs: Inputs, answer: Answer) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the inputs and the answer of a few key heads of one sequence at a time, in float64."""
    part = answer.part or Part.whole(workload)
    assert inputs.grad_output is not None and answer.gradients is not None  # noqa: S101, PT018 - checked by the caller
    given = [in_bhsd(tensor.detach(), inputs.layout) for tensor in (*inputs.leaves, inputs.grad_output)]
    got = [answer.output, *(gradient for gradient in answer.gradients if gradient is not None)]
    step = max(1, PIECE_ELEMENTS // max(1, given[0][0].numel() // workload.kv_heads))
    for place, batch in enumerate(part.batches):
        for start in range(0, len(part.kv_heads), step):
            heads = list(part.kv_heads[start : start + step])
            places = heads if answer.part is None else list(range(start, start + len(heads)))
            yield (
                *(_groups(tensor[batch], workload.kv_heads)[heads].double() for tensor in given),
                *(_groups(tensor[place], len(part.kv_heads))[places].double() for tensor in got),
            )


def _groups(heads: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Return a view (Hkv, g, S, D) of a tensor (Hq, S, D); for keys and values, g is 1."""
    return heads.view(kv_heads, len(heads) // kv_heads, *heads.shape[1:])


def _result(rule: str, ratio: float, found: str) -> AccuracyResult:
    return AccuracyResult(rule, ratio, None, f"{rule}; {found}" if ratio > 1 else None)
