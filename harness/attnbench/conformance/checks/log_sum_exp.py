"""Check the log-sum-exp that some variants return with their output, and check its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import Answer
from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.check_workloads import workload
from attnbench.reference import Piece, evaluate, in_bhsd

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject, Trial
    from attnbench.workloads.workload import Workload

LSE_FACTOR = 8.0  # the tolerance is this factor times float32's eps times the size of the scores


def offered(trial: Trial) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the output and the log-sum-exp (B, Hq, Sq), or None if the variant returns no log-sum-exp.

    Raises Failed if the log-sum-exp has the wrong shape or a dtype other than float32.
    """
    call = trial.variant.prepare_lse(trial.workload, trial.inputs)
    if call is None:
        return None
    output, lse = call()
    shape = (trial.workload.batch, trial.workload.heads, trial.workload.seq_q)
    if lse.dtype != torch.float32 or tuple(lse.shape) != shape:
        raise Failed(f"the log-sum-exp is {lse.dtype} {tuple(lse.shape)}, expected torch.float32 {shape}")
    return output, lse


@check(
    "log-sum-exp",
    demands="if the variant returns a log-sum-exp, its value and its gradient are correct",
    why="ring attention and other methods that combine partial results rely on it",
    usual_bug="the base is 2 instead of e, or the maximum is left out",
    remedy="return max + log(sum of exp(score - max)) in float32, and -inf for a query that sees no key",
    quick=[
        workload(seq_q=70, seq_k=100, mask="causal"),
        workload(seq_q=100, seq_k=70, mask="causal", dtype="bfloat16"),
        workload(seq=70, softcap=2.0, scale=0.7),
        workload(seq=90, mask="window:9:4", dtype="float16"),
    ],
    full=[
        workload(seq_q=100, seq_k=70, mask="causal", heads=6, kv_heads=2),
        *[workload(seq=90, mask=mask, batch=3) for mask in ("padding", "document")],
        workload(seq_q=1, seq_k=600, direction="forward", mask="causal", alibi=True),
    ],
)
def log_sum_exp(subject: Subject, workload: Workload) -> None:
    """Compare the output, the natural log-sum-exp and the log-sum-exp's gradient with the reference."""
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
        judge_log_sum_exp(piece, lse.detach())
        if gradients is not None:
            _judge_gradient(piece, weight, *(in_bhsd(each, trial.inputs.layout) for each in gradients))


def judge_log_sum_exp(piece: Piece, lse: torch.Tensor) -> None:
    """Raise Failed, naming the place and both values, if `lse` (B, Hq, Sq) differs from the reference."""
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
    """Return the typical size of the products that add up to each row's largest score, as a tensor (n, g, R).

    The products may cancel, so a score can be smaller than its products.
    """
    if not piece.key.numel():
        return torch.zeros_like(piece.attention.lse)
    longest = piece.key.norm(dim=-1).amax(-1, keepdim=True)
    terms: torch.Tensor = piece.scale * piece.query.norm(dim=-1) * longest / piece.query.shape[-1] ** 0.5
    return terms


def _judge_gradient(piece: Piece, weight: torch.Tensor, of_query: torch.Tensor, of_key: torch.Tensor) -> None:
    """Raise Failed if the gradient of the log-sum-exp with respect to the queries or keys is wrong.

    The derivative of the log-sum-exp with respect to a score is that score's weight.
    """
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
