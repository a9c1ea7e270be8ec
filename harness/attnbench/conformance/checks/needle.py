"""The needle check: each query has one key that outweighs all others, so a wrong answer shows which key was read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.check_workloads import LOW_PRECISION, workload
from attnbench.reference import visible

if TYPE_CHECKING:
    from attnbench.conformance.accuracy import Answer
    from attnbench.conformance.subject import Subject
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

GAP = 40.0  # a logit this far below the largest has a weight of 4e-18, which is negligible in every dtype
# Positions of keys at which tiles begin or end; negative positions count back from the end.
TILE_BORDERS = (0, 1, 63, 64, 127, 128, -2, -1)
# The five kinds of target are a key at a tile boundary, the first visible key, the last visible key, the key before the
# first visible key, and the key after the last visible key.
TARGET_KINDS = 5
ROUNDS = 3  # a query's target is of a different kind in each round
ULPS = 4.0  # error allowed in float32, in units in the last place, because one exponential is rounded


@check(
    "needle",
    demands="if one key outweighs all others by e^40, the output is exactly its value; hidden keys have no effect",
    why="the output shows which key of which head and sequence was read, even at tile boundaries",
    usual_bug="tile boundaries, strides, or head or batch indices are wrong, or the mask is off by one",
    remedy="the reason names the key that was read instead: find out how its index was computed",
    quick=[
        *[workload(mask=mask, seq_q=130, seq_k=257, heads=2) for mask in ("none", "causal", "window:40:3")],
        *[workload(mask=mask, seq=150, batch=3, kv_heads=2) for mask in ("padding", "document", "prefix:20")],
        workload(mask="causal-top-left", seq_q=200, seq_k=129, heads=2, head_dim=64),
        workload(mask="window:63:0", seq_q=129, seq_k=200, heads=2, head_dim=80),
        *[workload(mask="causal", seq=140, dtype=dtype, head_dim=64, heads=6, kv_heads=3) for dtype in LOW_PRECISION],
        workload(seq_q=9, seq_k=1100, heads=2, batch=1, direction="forward"),
    ],
    full=[
        workload(seq_q=9, seq_k=5000, heads=2, batch=1, dtype="bfloat16", direction="forward", head_dim=64),
        workload(seq=1100, mask="causal", heads=1, batch=1),
        workload(seq_q=257, seq_k=130, mask="causal", head_dim=128),
        workload(seq_q=1, seq_k=513, mask="causal", batch=5, heads=8, kv_heads=2, direction="forward"),
        workload(seq=90, mask="window:5:5", head_dim=192, head_dim_v=128, dtype="float16"),
        *[workload(mask=mask, seq=260, batch=4, dtype="bfloat16") for mask in ("padding", "document")],
    ],
)
def needle(subject: Subject, workload: Workload) -> None:
    """For each query, make one target key outweigh all others by e^40, so that the output is exactly that key's value.

    Each key encodes the binary digits of its position, scrambled differently in each head, and values are small
    integers, so a wrong answer identifies the key that was read. The targets are the first and last visible keys, keys
    at tile boundaries, random visible keys, and the hidden keys next to the visible ones. Hidden keys must
    have no effect.
    """
    if workload.softcap is not None or workload.alibi:
        raise Skipped("the needle check needs scores without softcap and ALiBi")
    trial = subject.trial(workload)
    generator = subject.generator("needle", workload.id)
    for round_number in range(ROUNDS):
        codes = _key_codes(workload, generator)
        targets, seen = _targets(workload, trial.inputs, generator, round_number)
        amplitude = _amplitude(workload)
        group = workload.heads // workload.kv_heads
        shape = (workload.batch, workload.kv_heads, workload.seq_k, workload.head_dim_v)
        # Values are never 0, so that the contribution of another key can't be mistaken for a rounding error.
        value = torch.randint(1, 128, shape, generator=generator) * random_signs(shape, generator)
        index = targets[..., None].expand(-1, -1, -1, workload.head_dim)
        query = amplitude * codes.repeat_interleave(group, 1).gather(2, index)
        shape = (workload.batch, workload.heads, workload.seq_q, workload.head_dim_v)
        trial.fill(query=query, key=codes, value=value, grad_output=torch.randint(-2, 3, shape, generator=generator))
        answer = trial.run(backward=round_number == ROUNDS - 1)
        _judge_needle(workload, answer, value, targets, seen)
        # Not for quantised variants: if several scores are equal, 8-bit rounding may make any of them the largest.
        if subject.variant.tier != "quantised":
            trial.judge(answer)


def rounding_of_one_weight(workload: Workload) -> float:
    """Return the relative error allowed if one key has all the weight: ULPS * eps in float32, and 0 in other dtypes.

    In float16 and bfloat16, rounding the output removes the error of the exponential, which is computed in float32.
    """
    return ULPS * torch.finfo(torch.float32).eps if workload.dtype == "float32" else 0.0


def random_signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return a tensor of random signs, +1 or -1."""
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1


def visible_pairs(workload: Workload, inputs: Inputs, batch: int) -> torch.Tensor:
    """Return a bool tensor (Sq, Sk) that says which keys each query of sequence `batch` sees."""
    return visible(workload, inputs, batch, torch.arange(workload.seq_q, device=inputs.query.device))


def _key_codes(workload: Workload, generator: torch.Generator) -> torch.Tensor:
    """Return keys (B, Hkv, Sk, D) that encode their positions in binary, as +1 and -1.

    The positions are scrambled differently in each head. Raises Skipped if head_dim is too small for that many keys.
    """
    w = workload
    digits = _digits(w)
    if digits > w.head_dim:
        raise Skipped(f"head_dim {w.head_dim} is too small to distinguish {w.seq_k} keys")
    scramble = torch.randint(0, 1 << digits, (w.batch, w.kv_heads, 1), generator=generator)
    places = torch.arange(w.seq_k) ^ scramble
    bits = (places[..., None] >> (torch.arange(w.head_dim) % digits)) & 1
    return bits * 2.0 - 1


def _digits(workload: Workload) -> int:
    """Return the number of binary digits in the last key's position."""
    return max(1, (workload.seq_k - 1).bit_length())


def _amplitude(workload: Workload) -> float:
    """Return the power of two that scales queries so that each target's logit is at least GAP above all others."""
    repeats = workload.head_dim // _digits(workload)
    return 2.0 ** math.ceil(math.log2(GAP / (2 * repeats * workload.effective_scale)))


def _targets(
    workload: Workload, inputs: Inputs, generator: torch.Generator, round_number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose a target key for each query; return the targets and whether each is visible, as tensors (B, Hq, Sq)."""
    w = workload
    targets = torch.zeros((w.batch, w.heads, w.seq_q), dtype=torch.long)
    hits = torch.zeros_like(targets, dtype=torch.bool)
    borders = torch.tensor([place % w.seq_k for place in TILE_BORDERS])
    rows = torch.arange(w.seq_q)
    for batch in range(w.batch):
        seen = visible_pairs(w, inputs, batch).cpu()
        first = seen.int().argmax(-1)
        last = w.seq_k - 1 - seen.int().flip(-1).argmax(-1)
        weights = seen.float() + (~seen.any(-1, keepdim=True)).float()
        for head in range(w.heads):
            drawn = torch.multinomial(weights, 1, generator=generator)[:, 0]
            at_border = borders[(rows + head + round_number) % len(borders)]
            at_border = torch.where(seen[rows, at_border], at_border, drawn)
            choices = torch.stack([at_border, first, last, (last + 1) % w.seq_k, (first - 1) % w.seq_k])
            targets[batch, head] = choices[(rows + head + round_number) % TARGET_KINDS, rows]
            hits[batch, head] = seen[rows, targets[batch, head]]
    return targets, hits


def _judge_needle(
    workload: Workload, answer: Answer, value: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor
) -> None:
    """Raise Failed, naming the first wrong query, if a query sees its target but does not return the target's value."""
    group = workload.heads // workload.kv_heads
    index = targets[..., None].expand(-1, -1, -1, workload.head_dim_v)
    expected = value.repeat_interleave(group, 1).gather(2, index)
    got = answer.output.float().cpu()
    wrong = (~((got - expected).abs() <= rounding_of_one_weight(workload) * expected.abs())).any(-1) & seen
    if not wrong.any():
        return
    batch, head, row = (int(place) for place in wrong.nonzero()[0])
    found = _source_of(got[batch, head, row], value)
    raise Failed(
        f"needle: query row {row} of batch {batch}, head {head} must give the value of key "
        f"{int(targets[batch, head, row])} of key head {head // group} exactly; it gave {found}. "
        f"Wrong in {int(wrong.sum())} of {int(seen.sum())} rows"
    )


def _source_of(got: torch.Tensor, value: torch.Tensor) -> str:
    """Describe a row of the output as the value of a key, NaN or Inf, 0, or a mixture of values."""
    matches = ((value - got).abs() < 0.5).all(-1).nonzero()
    if len(matches):
        batch, head, key = (int(place) for place in matches[0])
        return f"the value of key {key} of key head {head}, batch {batch}"
    if not got.isfinite().all():
        return "NaN or Inf"
    return "0" if not got.any() else "a mixture of values"
