"""Checks of dropout. With the identity matrix as values, the output is the matrix of dropped weights itself."""

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

DEVIATIONS = 6.0  # standard deviations by which a count of draws may differ from its mean
PATTERN = 9.0  # standard deviations from which a correlation counts as a pattern
LEAST_OVERLAP = 512  # weights that must overlap for a correlation to be computed
QUIET = 0.2  # size of queries and keys, so that no weight is too small to be distinguished from 0


@check(
    "dropout",
    demands="dropped weights are 0, kept ones are divided by 1-p, the rate is p, and backward drops the same weights",
    why="a model with a wrong factor or another mask in backward still trains, only worse",
    usual_bug="no division by 1-p, or a new mask drawn in backward",
    remedy="seed with inputs.seed, keep the generator's state for backward, and scale by 1/(1-p)",
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
    """Read the dropout mask from the output; judge its values, rate and patterns, and the gradients under it."""
    if workload.head_dim_v < workload.seq_k:
        raise ValueError(f"{workload.id}: reading off the mask needs head_dim_v >= seq_k")
    trial = _quiet(subject.trial(workload), subject)
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
        raise Failed(f"under the mask that the output shows: {result.reason}", result.bug)
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
    demands="dropout is correct under every mask, for few queries, grouped heads, every rate and dtype",
    why="a path for one feature often leaves dropout out or applies it wrongly",
    usual_bug="a path for single queries that drops nothing, or a rate above 1/2 taken for its opposite",
    remedy="draw in the same way in every path: keep a weight with probability 1-p, and divide it by 1-p",
    quick=COMBINED[:3],
    full=COMBINED[3:],
)
def dropout_anywhere(subject: Subject, workload: Workload) -> None:
    """Judge an answer by what is true of any draw: its mean, its noise, and one mask for forward and backward."""
    trial = subject.trial(workload).refill(subject.seed_of("dropped", workload.id))
    trial.fill(query=QUIET * trial.values("query"), key=QUIET * trial.values("key"))
    judge_any_draw(trial, trial.run())


def judge_any_draw(trial: Trial, answer: Answer) -> None:
    """Raise Failed, with the rule, if an answer under dropout breaks what is true of any draw."""
    result = any_draw(trial.workload, trial.inputs, answer, Part.whole(trial.workload))
    if not result.passed:
        raise Failed(result.reason or result.rule)


def _quiet(trial: Trial, subject: Subject) -> Trial:
    """Fill the inputs with small queries and keys, and the identity matrix as values."""
    workload = trial.workload
    trial.refill(subject.seed_of("dropout", workload.id))
    identity = torch.eye(workload.seq_k, workload.head_dim_v)
    trial.fill(query=QUIET * trial.values("query"), key=QUIET * trial.values("key"), value=identity[None, None])
    return trial


def _judge_values(workload: Workload, kept: torch.Tensor, dropped: torch.Tensor) -> None:
    """Judge the factors of the kept and of the dropped weights: 1/(1-p) and 0."""
    right = 1 / (1 - workload.dropout)
    slack = 8 * torch.finfo(getattr(torch, workload.dtype)).eps * 4 + 1e-3
    if dropped.numel() and float(dropped.abs().max()) > slack:
        raise Failed(f"a dropped weight is {float(dropped.abs().max()):.3g} times the weight, expected 0")
    if kept.numel() and not (kept - right).abs().max() <= slack * right:
        worst = float(kept[(kept - right).abs().argmax()])
        raise Failed(f"a kept weight is {worst:.4g} times the weight, expected 1/(1-p) = {right:.4g}")


def _judge_rate(workload: Workload, visible: torch.Tensor, kept: torch.Tensor) -> None:
    """Judge the share of dropped weights overall and in each head, key and row, and that no two heads share a mask."""
    rate = workload.dropout
    for text, dimensions in (
        ("all weights", (0, 1, 2, 3)),
        ("one head", (0, 2, 3)),
        ("one key", (0, 1, 2)),
        ("one row", (0, 1, 3)),
    ):
        count = visible.sum(dimensions).float()
        share = (visible & ~kept).sum(dimensions) / count.clamp(min=1)
        allowed = DEVIATIONS * (rate * (1 - rate) / count.clamp(min=1)).sqrt() + 1 / count.clamp(min=1)
        off = ((share - rate).abs() > allowed) & (count > 0)
        if off.any():
            found = float(share[off].flatten()[0])
            raise Failed(
                f"of {text}, a share of {found:.3g} is dropped, expected {rate:g} within {DEVIATIONS:g} deviations"
            )
    drawn = kept[visible.all(0, keepdim=True).all(1, keepdim=True).expand_as(kept)].view(
        workload.batch * workload.heads, -1
    )
    if len(torch.unique(drawn, dim=0)) < len(drawn):
        raise Failed("two heads drop the same weights: each head of each sequence needs a draw of its own")
    _judge_pattern(visible, kept)


def _judge_pattern(visible: torch.Tensor, kept: torch.Tensor) -> None:
    """Place all heads' masks below one another, and find any shift at which they correlate with themselves."""
    seen = visible.flatten(0, 2).double()
    dropped = (~kept).flatten(0, 2).double()
    rate = float((dropped * seen).sum() / seen.sum())
    centred = (dropped - rate) * seen
    sizes = [2 * size for size in seen.shape]  # room for shifts without wrapping round

    def alike(values: torch.Tensor) -> torch.Tensor:
        overlaps: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(values, s=sizes).abs().square(), s=sizes)
        return overlaps

    count = alike(seen)
    resemblance = alike(centred) / (rate * (1 - rate) * count.clamp(min=1).sqrt())
    _judge_images(visible, centred.view(visible.shape), rate)
    resemblance = resemblance.masked_fill(count < LEAST_OVERLAP, 0.0)
    resemblance[0, 0] = 0
    if float(resemblance.abs().max()) > PATTERN:
        row, key = divmod(int(resemblance.abs().argmax()), sizes[1])
        row, key = (at - size if at > size // 2 else at for at, size in zip((row, key), sizes, strict=True))
        raise Failed(
            f"the dropped weights repeat themselves {abs(row)} rows (counted on through heads) and {abs(key)} keys "
            f"further: draw for each weight independently"
        )


def _judge_images(visible: torch.Tensor, centred: torch.Tensor, rate: float) -> None:
    """Compare each head's mask with its mirror images and, if it is square, with its transpose."""
    images: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "read backwards": lambda mask: mask.flip(-1),
        "upside down": lambda mask: mask.flip(-2),
    }
    if visible.shape[-1] == visible.shape[-2]:
        images["with rows and keys exchanged"] = lambda mask: mask.mT
    rows, keys = visible.shape[-2:]
    places = torch.arange(rows * keys, device=visible.device).view(rows, keys)
    for text, turned in images.items():
        compared = visible & turned(visible) & (turned(places) != places)
        count = float(compared.sum())
        alike = float((centred * turned(centred) * compared).sum()) / (rate * (1 - rate) * max(count, 1.0) ** 0.5)
        if count >= LEAST_OVERLAP and abs(alike) > PATTERN:
            raise Failed(f"a head's dropped weights resemble themselves {text}: draw for each weight independently")


def _judge_seed(subject: Subject, workload: Workload, kept: torch.Tensor) -> None:
    """Judge that another seed draws another mask, and that a seed of 0 is no exception."""
    inputs = make_inputs(workload, subject.device, subject.variant.layout, seed=subject.seed_of("another draw"))
    trial = _quiet(subject.trial(workload, replace(inputs, seed=inputs.seed + 1)), subject)
    other = trial.run().output[..., : workload.seq_k] != 0
    if torch.equal(other, kept):
        raise Failed("another inputs.seed drops the same weights: seed the draw with inputs.seed")
    trial = _quiet(subject.trial(workload, replace(inputs, seed=0)), subject)
    if bool((trial.run().output[..., : workload.seq_k] != 0)[kept | other].all()):
        raise Failed("inputs.seed of 0 drops nothing: it is a seed like any other")
