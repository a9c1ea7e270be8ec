"""Checks on special inputs, each of which exposes a kind of bug that hardly changes the answer for random inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.check_workloads import DTYPES, LOW_PRECISION, workload
from attnbench.conformance.checks.needle import random_signs, rounding_of_one_weight, visible_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

HUGE = 1e4
FLOAT16_HUGE = 3e4  # largest unscaled score given to plain float16 variants, which overflow above 65504
# Equal queries or keys have equal rounding errors, which add up, so gradient tolerances are multiplied by this factor.
EQUAL_ROWS_SLACK = 16.0
# The factor for gradient tolerances if logits are of ordinary size. The variant with torch's nested tensors needs 2.5.
ORDINARY_LOGITS_SLACK = 4.0
CLIMB = 40.0  # scores rise from -CLIMB at the first key to CLIMB at the last
CROWD, TOP = 4000, 2  # together, CROWD keys of weight e^-12 have about 1% of the weight of TOP keys of weight 1
SPREAD = 0.3  # standard deviation of queries and gradients around their common direction


@check(
    "logit-gap",
    demands="keys with logits 6 and 12 below the largest get e^-6 and e^-12 times the largest weight",
    why="an error of 2% in the scale changes such weights by 12%, but hardly shows with ordinary inputs",
    usual_bug="the scale of another head_dim, a scale applied twice, or tiles skipped because they seem negligible",
    remedy="use workload.effective_scale as the scale, and include every tile that the mask leaves visible",
    quick=[
        workload(seq=90),
        workload(seq=90, mask="causal", head_dim=80, head_dim_v=32, dtype="bfloat16"),
        workload(seq_q=30, seq_k=90, scale=0.4),
        workload(seq_q=9, seq_k=4100, batch=1, heads=2),
    ],
    full=[
        workload(seq_q=9, seq_k=4100, batch=1, heads=2, dtype="bfloat16", direction="forward"),
        *[workload(seq=90, head_dim=size, dtype=dtype) for size in (8, 96, 160) for dtype in LOW_PRECISION],
    ],
)
def logit_gap(subject: Subject, workload: Workload) -> None:
    """Give most keys a logit 6 below the largest, so that an error in the scale shows in their weights of e^-6.

    With thousands of keys, the variant runs twice. In the first run, all keys but the first two get logits 12 to 13
    below the largest, so that their weights matter only as a sum. In the second run, all keys but the last two get such
    logits. These logits are all different. If their weights were equal, float32 would lose the same digits each time
    one of them is added to a larger sum, even in a correct variant.
    """
    trial = subject.trial(workload)
    generator = subject.generator("gap", workload.id)
    w = workload
    direction = random_signs((w.batch, w.kv_heads, 1, w.head_dim), generator)
    query = direction.repeat_interleave(w.heads // w.kv_heads, 1).expand(-1, -1, w.seq_q, -1)
    place, drawn = torch.arange(w.seq_k)[:, None], torch.rand((w.batch, w.kv_heads, w.seq_k, 1), generator=generator)
    crowded = [(place >= TOP) * (12.0 + drawn), (place < w.seq_k - TOP) * (12.0 + drawn)]
    for depth in crowded if w.seq_k >= CROWD else [6.0 * (drawn > 0.1)]:
        key = direction * depth / (-w.head_dim * w.effective_scale)
        trial.refill(subject.seed_of("gap", workload.id)).fill(query=query, key=key)
        trial.judge(trial.run(), slack=ORDINARY_LOGITS_SLACK)


@check(
    "climbing-logits",
    demands="scores that climb or fall by about 80 from the first key to the last are weighted correctly",
    why="each tile then has a larger maximum than all earlier tiles or, if scores fall, a smaller one",
    usual_bug="rescaling for a larger maximum is skipped, or its factor is clamped",
    remedy="rescale sum and output by exp(old maximum - new maximum) at every tile",
    quick=[workload(seq=200, mask="causal", heads=2)],
    full=[workload(seq_q=30, seq_k=400, heads=2), workload(seq=200, heads=2, dtype="bfloat16")],
)
def climbing_logits(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference on scores that rise and on scores that fall by about 2 * CLIMB overall."""
    trial = subject.trial(workload)
    generator = subject.generator("climb", workload.id)
    w = workload
    direction = random_signs((w.batch, w.kv_heads, 1, w.head_dim), generator)
    steepness = 0.5 + torch.rand((w.batch, w.heads, w.seq_q, 1), generator=generator)
    query = direction.repeat_interleave(w.heads // w.kv_heads, 1) * steepness
    ramp = torch.linspace(-1, 1, w.seq_k)[:, None] * CLIMB / (w.head_dim * w.effective_scale)
    for slope in (1, -1):
        noise = 0.1 * torch.randn((w.batch, w.kv_heads, w.seq_k, w.head_dim), generator=generator)
        trial.refill(subject.seed_of("climb", workload.id, slope)).fill(
            query=query, key=slope * ramp * direction + noise
        )
        trial.judge(trial.run())


@check(
    "huge-logits",
    demands="scores of 1e4 and -1e4 give finite, correct answers",
    why="trained models do produce large scores",
    usual_bug="exp is computed without subtracting the row's maximum, or products are held in float16",
    remedy="subtract the running maximum, and hold scores in float32",
    quick=[workload(seq=80, mask=mask, dtype=dtype) for mask, dtype in (("none", "float32"), ("causal", "bfloat16"))],
    full=[workload(seq=80, mask="causal", dtype="float16", head_dim=128), workload(seq=80, mask="window:5:0")],
)
def huge_logits(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference on scores of about 1e4 and -1e4, first mixed, then of one sign per row.

    The inputs are chosen so that float32 adds up the products without rounding. Otherwise, the last digit of a score
    would depend on the order of summation. For scores this large, the last digit changes the exponential considerably,
    so even a correct variant could fail.
    """
    trial = subject.trial(workload)
    generator = subject.generator("huge", workload.id)
    w = workload
    size = HUGE / w.effective_scale
    if w.dtype == "float16" and subject.variant.tier == "plain":
        size = min(size, FLOAT16_HUGE)
    side = _round_to_four_digits(math.sqrt(size / w.head_dim))
    signs = random_signs((w.batch, w.kv_heads, 1, w.head_dim), generator)
    of_key = random_signs((w.batch, w.kv_heads, w.seq_k, 1), generator)
    # Give the scores of each query two different magnitudes, so that clamping the scores changes the answer.
    of_key *= 1 - 0.25 * torch.randint(0, 2, of_key.shape, generator=generator)
    of_query = random_signs((w.batch, w.heads, w.seq_q, 1), generator)
    query = side * signs.repeat_interleave(w.heads // w.kv_heads, 1) * of_query
    for keys in (of_key, torch.ones_like(of_key), -torch.ones_like(of_key)):
        trial.refill(subject.seed_of("huge", workload.id)).fill(query=query, key=side * signs * keys)
        trial.judge(trial.run(), slack=EQUAL_ROWS_SLACK)


def _round_to_four_digits(number: float) -> float:
    """Round a number to four significant binary digits."""
    step = 2.0 ** (math.floor(math.log2(number)) - 3)
    return step * round(number / step)


@check(
    "uniform",
    demands="equal scores give the mean of the visible values, and equal values give that value",
    why="the mean shows which keys are counted in the sum of weights",
    usual_bug="padding is counted in the softmax's sum",
    remedy="set the scores of positions beyond the true length to -inf, not 0",
    quick=[workload(seq_q=40, seq_k=77), workload(seq=77, mask="causal", dtype="bfloat16")],
    full=[workload(seq=200, mask="padding", batch=3), workload(seq=77, mask="window:9:2", dtype="float16")],
)
def uniform(subject: Subject, workload: Workload) -> None:
    """Make all scores equal, so that the output is the mean of the visible values; then make all values equal."""
    trial = subject.trial(workload)
    trial.refill(subject.seed_of("uniform", workload.id)).fill(key=torch.zeros_like(trial.values("key")))
    trial.judge(trial.run())
    trial.refill(subject.seed_of("constant", workload.id))
    trial.fill(value=trial.values("value")[:, :, :1].expand(-1, -1, workload.seq_k, -1))
    trial.judge(trial.run())


def _zero_rows(_: str, tensor: torch.Tensor) -> torch.Tensor:
    tensor[:, :, ::3] = 0.0
    return tensor


UNUSUAL_VALUES: dict[str, Callable[[str, torch.Tensor], torch.Tensor | None]] = {
    "every third row of each input exactly 0": _zero_rows,
    "a mean of 8 in the values": lambda name, tensor: tensor + 8 if name == "value" else None,
    "values a thousand times as large": lambda name, tensor: 1024 * tensor if name == "value" else None,
    "gradients 2^-15 times their usual size": lambda name, tensor: tensor / 32768 if name == "grad_output" else None,
}


@check(
    "magnitudes",
    demands="rows of exact zeros, values with a large mean or size, and tiny gradients are handled like other inputs",
    why="activations have outliers and means, losses are scaled, and padding is often zero",
    usual_bug="zero rows count as padding, values are clamped, subnormals flushed, or delta rounded to the input dtype",
    remedy="hold scores, sums and delta in float32, and give no value a special meaning",
    quick=[workload(seq_q=60, seq_k=90, dtype=dtype) for dtype in DTYPES],
    full=[workload(seq=90, mask="causal", dtype=dtype, heads=6, kv_heads=2) for dtype in DTYPES],
)
def magnitudes(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference on rows of zeros, values with a large mean or size, and tiny gradients."""
    for text, change in UNUSUAL_VALUES.items():
        trial = subject.trial(workload).refill(subject.seed_of("magnitudes", workload.id, text))
        names = ("query", "key", "value") + (("grad_output",) if workload.needs_gradient else ())
        trial.fill(**{name: changed for name in names if (changed := change(name, trial.values(name))) is not None})
        try:
            trial.judge(trial.run())
        except Failed as failure:
            raise failure.within(f"with {text}") from failure


@check(
    "coherent",
    demands="gradients of keys and values are correct if the terms of thousands of queries have the same sign",
    why="random gradients cancel, so a sum that loses digits with every tile goes unnoticed",
    usual_bug="dK or dV is summed over tiles of queries in float16 or bfloat16",
    remedy="sum gradients in float32, and round once at the end",
    quick=[workload(seq_q=4100, seq_k=5, batch=1, heads=2, dtype="bfloat16")],
    full=[workload(seq_q=4100, seq_k=5, batch=1, heads=2, dtype="float16")],
)
def coherent(subject: Subject, workload: Workload) -> None:
    """Make all queries similar, and make all rows of grad_output similar, so that no terms cancel in dK and dV."""
    if not workload.needs_gradient:
        raise Skipped("the variant has no backward pass")
    trial = subject.trial(workload).refill(subject.seed_of("coherent", workload.id))
    generator = subject.generator("coherent", workload.id)
    alike = {
        name: 1 + SPREAD * torch.randn(trial.values(name).shape, generator=generator)
        for name in ("query", "grad_output")
    }
    trial.fill(**alike)
    trial.judge(trial.run())


@check(
    "single-key",
    demands="with one key, the output is exactly its value (in float32, within 4 units in the last place)",
    why="a softmax over one key is 1",
    usual_bug="something other than the weights is added to their sum",
    remedy="check the initial value of the sum of weights, and the padding of the only tile",
    quick=[
        workload(seq_q=70, seq_k=1, dtype=dtype, mask=mask)
        for dtype, mask in (("float32", "none"), ("bfloat16", "causal-top-left"))
    ],
)
def single_key(subject: Subject, workload: Workload) -> None:
    """Check that the output is the value of the only key (in float32, up to the rounding error of an exponential)."""
    if workload.seq_k != 1:
        raise Skipped(f"the nearest workload that the variant supports has {workload.seq_k} keys")
    trial = subject.trial(workload).refill(subject.seed_of("single", workload.id))
    answer = trial.run()
    group = workload.heads // workload.kv_heads
    expected = trial.values("value").repeat_interleave(group, 1).expand_as(answer.output)
    seen = torch.stack([visible_pairs(workload, trial.inputs, batch) for batch in range(workload.batch)])[:, None]
    expected = expected * seen.to(expected)
    error = (answer.output - expected).abs()
    if not bool((error <= rounding_of_one_weight(workload) * expected.abs()).all()):
        largest = float((answer.output.double() - expected.double()).abs().max())
        raise Failed(f"there is one key, so the output must be its value, but it is off by up to {largest:.3g}")
    trial.judge(answer)
