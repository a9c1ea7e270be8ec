"""The log-sum-exp that some variants offer beside their output, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import Answer
from attnbench.conformance.check import Failed, Skipped
from attnbench.reference import Piece, evaluate, in_bhsd

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject, Trial
    from attnbench.workloads.workload import Workload

LSE_FACTOR = 8.0  # of eps (1 + max|score|), as for the output in float32


def offered(trial: Trial) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Give output and log-sum-exp (B, Hq, Sq) on the trial's inputs, or None where the variant offers none.

    Failed where the log-sum-exp is not float32 of that shape.
    """
    call = trial.variant.prepare_lse(trial.workload, trial.inputs)
    if call is None:
        return None
    output, lse = call()
    shape = (trial.workload.batch, trial.workload.heads, trial.workload.seq_q)
    if lse.dtype != torch.float32 or tuple(lse.shape) != shape:
        raise Failed(f"the log-sum-exp is {lse.dtype} {tuple(lse.shape)}, expected torch.float32 {shape}")
    return output, lse


def log_sum_exp(subject: Subject, workload: Workload) -> None:
    """Demand of a variant that offers the natural log-sum-exp that it and the gradient through it are right."""
    trial = subject.trial(workload).refill(subject.seed_of("lse", workload.id))
    found = offered(trial)
    if found is None:
        raise Skipped("the variant offers no log-sum-exp")
    output, lse = found
    trial.judge(Answer(in_bhsd(output.detach(), trial.inputs.layout)))
    weight = torch.randn(lse.shape, generator=subject.generator("lse", workload.id)).to(lse.device)
    gradients = None
    if lse.requires_grad:
        weighted = (lse.masked_fill(lse == -torch.inf, 0.0) * weight).sum()
        gradients = torch.autograd.grad(weighted, trial.inputs.leaves[:2])
    for piece in evaluate(workload, trial.inputs):
        judge(piece, lse.detach())
        if gradients is not None:
            _judge_gradient(piece, weight, *(in_bhsd(each, trial.inputs.layout) for each in gradients))


def judge(piece: Piece, lse: torch.Tensor) -> None:
    """Hold a log-sum-exp (B, Hq, Sq) to a piece of the reference; Failed with where and what came."""
    got, expected = piece.of_queries(lse).double(), piece.attention.lse
    size = 1 + piece.attention.largest_score + expected.nan_to_num(neginf=0.0).abs() + _terms(piece)
    wrong = ~((got == expected) | ((got - expected).abs() <= LSE_FACTOR * torch.finfo(torch.float32).eps * size))
    if wrong.any():
        index, member, row = (int(place) for place in wrong.nonzero()[0])
        raise Failed(
            f"the log-sum-exp of batch {piece.batch}, head {piece.head(index, member)}, row {int(piece.rows[row])} is "
            f"{float(got[index, member, row]):.6g}, expected {float(expected[index, member, row]):.6g} (base e)"
        )


def _terms(piece: Piece) -> torch.Tensor:
    """Give how large the terms are that a row's largest score sums, typically, before they cancel: (n, g, R)."""
    if not piece.key.numel():
        return torch.zeros_like(piece.attention.lse)
    longest = piece.key.norm(dim=-1).amax(-1, keepdim=True)
    terms: torch.Tensor = piece.scale * piece.query.norm(dim=-1) * longest / piece.query.shape[-1] ** 0.5
    return terms


def _judge_gradient(piece: Piece, weight: torch.Tensor, of_query: torch.Tensor, of_key: torch.Tensor) -> None:
    """Compare with the derivative of the log-sum-exp by the scores, which is the weights."""
    slope = 1.0 if piece.attention.slope is None else piece.attention.slope
    pull = piece.scale * piece.attention.weights * slope * piece.of_queries(weight).double()[..., None]
    right = (pull @ piece.key, (pull.mT @ piece.query).sum(1, keepdim=True))
    allowed = LSE_FACTOR * torch.finfo(of_query.dtype).eps * (1 + float(piece.attention.largest_score.max()))
    for name, got, expected in zip(
        ("query", "key"), (piece.of_queries(of_query), piece.of_keys(of_key)), right, strict=True
    ):
        off = float((got.double() - expected).norm() / expected.norm().clamp(min=1e-30))
        if not off <= allowed:
            raise Failed(f"the log-sum-exp's gradient of {name} is off by {off:.3g} of its size, allowed {allowed:.3g}")
