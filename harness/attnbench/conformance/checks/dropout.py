"""Dropout checks. If the values are the identity matrix, the output is the matrix of weights after dropout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.accuracy import compare
from attnbench.conformance.check import Failed, check
from attnbench.conformance.check_workloads import DTYPES, covering, workload
from attnbench.conformance.dropout_rules import any_draw
from attnbench.reference import Part, evaluate
from attnbench.tensors.inputs import make_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.conformance.accuracy import Answer
    from attnbench.conformance.subject import Subject, Trial
    from attnbench.workloads.workload import Workload

# The share of dropped weights may differ from the dropout probability by at most this many standard deviations.
MAX_DEVIATIONS = 6.0
PATTERN_DEVIATIONS = 9.0  # a correlation above this many standard deviations counts as a pattern
MIN_OVERLAP = 512  # a correlation counts only if it is computed from at least this many weights
SMALL = 0.2  # queries and keys are multiplied by this factor, so that every weight is clearly larger than 0


@check(
    "dropout",
    demands="dropped weights are 0, kept ones are divided by 1-p, the rate is p, and both passes drop the same weights",
    why="with a wrong factor or another mask in the backward pass, a model still trains, but less well",
    usual_bug="no division by 1-p, or a new mask in the backward pass",
    remedy="seed with inputs.seed, keep the generator's state for the backward pass, and scale by 1/(1-p)",
    quick=[
        workload(seq=64, head_dim=32, head_dim_v=64, dropout=0.3),
        workload(seq_q=2000, seq_k=64, head_dim_v=64, batch=1, heads=1, dropout=0.3),
    ],
    full=[
        workload(seq_q=100, seq_k=120, head_dim=32, head_dim_v=128, dropout=0.1, mask="causal", heads=2),
        workload(seq=64, head_dim=64, dropout=0.5, dtype="bfloat16"),
        workload(seq=64, head_dim=64, dropout=0.2, dtype="float16"),
        *[workload(seq=64, head_dim=64, dropout=rate) for rate in (0.02, 0.75, 0.95)],
        workload(seq_q=1, seq_k=128, head_dim=32, head_dim_v=128, batch=3, heads=32, dropout=0.4),
        workload(seq_q=64, seq_k=512, head_dim_v=512, batch=1, heads=1, dropout=0.3),
    ],
)
def dropout(subject: Subject, workload: Workload) -> None:
    """Read the dropout mask from the output, and check this mask, the gradients, and the effect of the seed."""
    if workload.head_dim_v < workload.seq_k:
        raise ValueError(f"{workload.id}: reading the mask from the output needs head_dim_v >= seq_k")
    trial = _fill_to_reveal_mask(subject.trial(workload), subject)
    answer = trial.run()
    weights = torch.zeros((workload.batch, workload.heads, workload.seq_q, workload.seq_k), device=answer.output.device)
    for piece in evaluate(workload, trial.inputs):
        weights[piece.batch].view(workload.kv_heads, -1, *weights.shape[2:])[piece.kv_heads] = (
            piece.attention.weights.float()
        )
    factor = answer.output[..., : workload.seq_k].float() / weights.clamp(min=1e-30)
    visible = weights > 0
    kept = factor > 0.5 / (1 - workload.dropout)
    _judge_values(workload, factor[visible & kept], factor[visible & ~kept])
    _judge_rate(workload, visible, kept)
    scaled = kept.float() / (1 - workload.dropout)
    result = compare(workload, trial.inputs, subject.variant.tier, answer, kept=scaled)
    if not result.passed:
        raise Failed(f"with the dropout mask that was read from the output: {result.reason}", result.bug)
    _judge_seed(subject, workload, visible & kept)


CHOICES: dict[str, list[Any]] = {
    "mask": ["none", "causal", "window:20:13", "prefix:40", "padding", "document"],
    "lengths": [(100, 100), (1, 256), (64, 200), (300, 300)],
    "heads": [(16, 16), (16, 2)],
    "dropout": [0.1, 0.3, 0.75],
    "dtype": [*DTYPES],
    "scores": [{}, {"softcap": 2.0}, {"alibi": True}],
    "direction": ["forward_backward", "forward"],
}
COMBINED = [
    workload(
        seq_q=choice["lengths"][1 if choice["mask"] == "document" else 0],
        seq_k=choice["lengths"][1],
        heads=choice["heads"][0],
        kv_heads=choice["heads"][1],
        batch=3,
        **choice["scores"],
        **{name: choice[name] for name in ("mask", "dropout", "dtype", "direction")},
    )
    for choice in covering(CHOICES)
]


@check(
    "dropout-anywhere",
    demands="dropout is correct for every mask, rate and dtype, for few queries, and for grouped heads",
    why="a code path for one feature often leaves out dropout or applies it wrongly",
    usual_bug="a code path for single queries drops nothing, or p is confused with 1-p",
    remedy="draw in the same way in every code path: keep a weight with probability 1-p, and divide it by 1-p",
    quick=COMBINED[:3],
    full=COMBINED[3:],
)
def dropout_anywhere(subject: Subject, workload: Workload) -> None:
    """Check the mean and the noise of the output, and check that both passes drop the same weights."""
    trial = subject.trial(workload).refill(subject.seed_of("dropped", workload.id))
    trial.fill(query=SMALL * trial.values("query"), key=SMALL * trial.values("key"))
    judge_any_draw(trial, trial.run())


def judge_any_draw(trial: Trial, answer: Answer) -> None:
    """Raise Failed, naming the rule, if an answer breaks a rule that holds whichever weights are dropped."""
    result = any_draw(trial.workload, trial.inputs, answer, Part.whole(trial.workload))
    if not result.passed:
        raise Failed(result.reason or result.rule)


def _fill_to_reveal_mask(trial: Trial, subject: Subject) -> Trial:
    """Make queries and keys small, so that no weight is near 0, set values to the identity, and return the trial."""
    workload = trial.workload
    trial.refill(subject.seed_of("dropout", workload.id))
    identity = torch.eye(workload.seq_k, workload.head_dim_v)
    trial.fill(query=SMALL * trial.values("query"), key=SMALL * trial.values("key"), value=identity[None, None])
    return trial


def _judge_values(workload: Workload, kept: torch.Tensor, dropped: torch.Tensor) -> None:
    """Raise Failed unless dropout multiplied kept weights by 1/(1-p) and dropped weights by 0."""
    right = 1 / (1 - workload.dropout)
    slack = 8 * torch.finfo(getattr(torch, workload.dtype)).eps * 4 + 1e-3
    if dropped.numel() and float(dropped.abs().max()) > slack:
        raise Failed(f"a dropped weight is {float(dropped.abs().max()):.3g} times its original value, expected 0")
    if kept.numel() and not (kept - right).abs().max() <= slack * right:
        worst = float(kept[(kept - right).abs().argmax()])
        raise Failed(f"a kept weight is {worst:.4g} times its original value, expected 1/(1-p) = {right:.4g}")


def _judge_rate(workload: Workload, visible: torch.Tensor, kept: torch.Tensor) -> None:
    """Raise Failed if the dropout rate is wrong, overall or for a head, key or row, or if masks repeat or correlate."""
    rate = workload.dropout
    for text, dimensions in (
        ("all weights", (0, 1, 2, 3)),
        ("one head", (0, 2, 3)),
        ("one key", (0, 1, 2)),
        ("one row", (0, 1, 3)),
    ):
        count = visible.sum(dimensions).float()
        share = (visible & ~kept).sum(dimensions) / count.clamp(min=1)
        allowed = MAX_DEVIATIONS * (rate * (1 - rate) / count.clamp(min=1)).sqrt() + 1 / count.clamp(min=1)
        off = ((share - rate).abs() > allowed) & (count > 0)
        if off.any():
            found = float(share[off].flatten()[0])
            raise Failed(
                f"the dropped share of {text} is {found:.3g}, expected {rate:g} within "
                f"{MAX_DEVIATIONS:g} standard deviations"
            )
    drawn = kept[visible.all(0, keepdim=True).all(1, keepdim=True).expand_as(kept)].view(
        workload.batch * workload.heads, -1
    )
    if len(torch.unique(drawn, dim=0)) < len(drawn):
        raise Failed("two heads drop the same weights: draw separately for each head of each sequence")
    _judge_pattern(visible, kept)


def _judge_pattern(visible: torch.Tensor, kept: torch.Tensor) -> None:
    """Raise Failed if the stacked masks of all heads correlate with a shifted copy of themselves.

    Also raises Failed if the masks correlate with their mirror images or transposes.
    """
    seen = visible.flatten(0, 2).double()
    dropped = (~kept).flatten(0, 2).double()
    rate = float((dropped * seen).sum() / seen.sum())
    centred = (dropped - rate) * seen
    sizes = [2 * size for size in seen.shape]  # padded to twice the size, so that shifted copies do not wrap around

    def alike(values: torch.Tensor) -> torch.Tensor:
        overlaps: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(values, s=sizes).abs().square(), s=sizes)
        return overlaps

    count = alike(seen)
    resemblance = alike(centred) / (rate * (1 - rate) * count.clamp(min=1).sqrt())
    _judge_images(visible, centred.view(visible.shape), rate)
    resemblance = resemblance.masked_fill(count < MIN_OVERLAP, 0.0)
    resemblance[0, 0] = 0
    if float(resemblance.abs().max()) > PATTERN_DEVIATIONS:
        row, key = divmod(int(resemblance.abs().argmax()), sizes[1])
        row, key = (at - size if at > size // 2 else at for at, size in zip((row, key), sizes, strict=True))
        raise Failed(
            f"the pattern of dropped weights repeats after {abs(row)} rows (counted across heads) and {abs(key)} keys: "
            f"draw independently for each weight"
        )


def _judge_images(visible: torch.Tensor, centred: torch.Tensor, rate: float) -> None:
    """Raise Failed if the masks correlate with their mirror images or, if square, with their transposes."""
    images: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "with the keys in reverse order": lambda mask: mask.flip(-1),
        "with the rows in reverse order": lambda mask: mask.flip(-2),
    }
    if visible.shape[-1] == visible.shape[-2]:
        images["with rows and keys exchanged"] = lambda mask: mask.mT
    rows, keys = visible.shape[-2:]
    places = torch.arange(rows * keys, device=visible.device).view(rows, keys)
    for text, turned in images.items():
        compared = visible & turned(visible) & (turned(places) != places)
        count = float(compared.sum())
        alike = float((centred * turned(centred) * compared).sum()) / (rate * (1 - rate) * max(count, 1.0) ** 0.5)
        if count >= MIN_OVERLAP and abs(alike) > PATTERN_DEVIATIONS:
            raise Failed(f"a head's mask correlates with the same mask {text}: draw independently for each weight")


def _judge_seed(subject: Subject, workload: Workload, kept: torch.Tensor) -> None:
    """Raise Failed if another seed drops the same weights, or if a seed of 0 drops nothing."""
    inputs = make_inputs(workload, subject.device, subject.variant.layout, seed=subject.seed_of("another draw"))
    trial = _fill_to_reveal_mask(subject.trial(workload, replace(inputs, seed=inputs.seed + 1)), subject)
    other = trial.run().output[..., : workload.seq_k] != 0
    if torch.equal(other, kept):
        raise Failed("another inputs.seed drops the same weights: seed the draw with inputs.seed")
    trial = _fill_to_reveal_mask(subject.trial(workload, replace(inputs, seed=0)), subject)
    if bool((trial.run().output[..., : workload.seq_k] != 0)[kept | other].all()):
        raise Failed("an inputs.seed of 0 drops nothing: treat 0 like any other seed")
