"""Checks of attention's properties, such as no leak from hidden keys, independence of heads, and permutation."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.check_workloads import of_all_shapes, workload
from attnbench.conformance.tolerance import output_rule
from attnbench.reference import evaluate, visible

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject, Trial
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

LARGE = 100.0  # standard deviation of the random numbers that replace hidden keys and values


@check(
    "no-leak",
    demands="hidden keys and values change no bit of a row that does not see them, and get no gradient from that row",
    why="a causal model that sees future tokens trains well but generates nonsense",
    usual_bug="a mask is off by one, leaks across a document border, or adds a large but finite number",
    remedy="mask with -inf before the softmax, in both passes",
    quick=[
        *of_all_shapes(("causal", "window:9:4"), heads=2)[:4],
        workload(seq=140, mask="document", batch=2),
        workload(seq=140, mask="padding", batch=3),
    ],
    full=[
        workload(seq=300, mask="causal", dtype="bfloat16", heads=2),
        workload(seq=140, mask="prefix:20", dtype="float16"),
        workload(seq_q=70, seq_k=200, mask="causal-top-left"),
    ],
)
def no_leak(subject: Subject, workload: Workload) -> None:
    """Check that changing keys and values changes no bit of the output of rows that see none of them.

    The changed keys and values must also get no gradient from these rows. In the quantised tier, visible and hidden
    keys in a block share a step size, so the output may change. In this tier, the new keys and values are of ordinary
    size, and the answer only has to stay correct.
    """
    quantised = subject.variant.tier == "quantised"
    trial = subject.trial(workload).refill(subject.seed_of("leak", workload.id))
    before = _repeatable_output(trial)
    key, value = trial.values("key"), trial.values("value")
    noise = subject.generator("leak", workload.id)
    for changed in _sets_of_keys(workload.seq_k):
        blind = _blind_rows(workload, trial.inputs, changed)
        if not blind.any():
            continue
        if workload.needs_gradient and changed[-1]:
            _require_no_gradient(trial, changed, blind, subject.seed_of("leak", workload.id))
        for name, values in (("key", key), ("value", value)):
            loud = (1.0 if quantised else LARGE) * torch.randn(values.shape, generator=noise)
            trial.fill(key=key, value=value)
            trial.fill(**{name: torch.where(changed[:, None], loud.to(values), values)})
            answer = trial.run(backward=False)
            if quantised:
                trial.judge(answer)
                continue
            after = answer.output
            moved = (after != before).any(-1) & blind[:, None].to(after.device)
            if moved.any():
                batch, head, row = (int(place) for place in moved.nonzero()[0])
                raise Failed(
                    f"row {row} of batch {batch}, head {head} sees none of the keys {_range(changed)}, but its output "
                    f"changed when the {name} tensor changed there; {int(moved.sum()) - 1} other rows changed too"
                )
        trial.fill(key=key, value=value)


def _sets_of_keys(length: int) -> list[torch.Tensor]:
    """Return sets of keys to change, as bool tensors (Sk,).

    One set is the first half of the keys. Each of the others starts at a different border and extends to the last key.
    """
    places = torch.arange(length)
    borders = sorted({place for place in (length // 3, 64, length - 1) if 0 < place < length})
    return [places >= border for border in borders] + [places < length // 2]


def _blind_rows(workload: Workload, inputs: Inputs, keys: torch.Tensor) -> torch.Tensor:
    """Return a bool tensor (B, Sq) that says which rows of each sequence see none of `keys`."""
    rows = torch.arange(workload.seq_q, device=inputs.query.device)
    seen = (visible(workload, inputs, batch, rows).cpu() & keys for batch in range(workload.batch))
    return torch.stack([~each.any(-1) for each in seen])


def _require_no_gradient(trial: Trial, changed: torch.Tensor, blind: torch.Tensor, seed: int) -> None:
    """Raise Failed if the changed keys get a gradient although grad_output is 0 in all rows that see them.

    `changed` (Sk,) marks the changed keys, and `blind` (B, Sq) marks the rows that see none of these keys.
    """
    trial.refill(seed)
    grad_output = trial.values("grad_output")
    trial.fill(grad_output=grad_output * blind[:, None, :, None].to(grad_output))
    gradients = trial.run().gradients
    if gradients is None:
        return
    for name, gradient in zip(("key", "value"), gradients[1:], strict=True):
        leaked = gradient is not None and bool(gradient[:, :, changed.to(gradient.device)].any())
        if leaked:
            raise Failed(
                f"the gradient of {name}s {_range(changed)} is not 0, but grad_output is 0 in all rows that see them"
            )


def _range(keys: torch.Tensor) -> str:
    places = keys.nonzero().flatten().tolist()
    return f"{places[0]} to {places[-1]}"


@check(
    "independence",
    demands="changing one sequence or one head changes no bit of the output of the others",
    why="mixed-up batch and head indices often give plausible numbers",
    usual_bug="the strides of batch and heads are swapped, or sequences share statistics",
    remedy="index with the tensor's own strides",
    quick=[workload(seq=70, batch=3, heads=6, kv_heads=3, direction="forward", mask="causal")],
    full=[workload(seq_q=1, seq_k=300, batch=4, direction="forward", dtype="bfloat16")],
)
def independence(subject: Subject, workload: Workload) -> None:
    """Check that changing one sequence or one key head changes no bit of the output of the others."""
    trial = subject.trial(workload).refill(subject.seed_of("independence", workload.id))
    before = _repeatable_output(trial)
    original = {name: trial.values(name) for name in ("query", "key", "value")}
    group = workload.heads // workload.kv_heads
    for batch, head in ((workload.batch - 1, None), (0, None), (None, workload.kv_heads - 1), (None, 0)):
        changed = torch.zeros(workload.batch, workload.kv_heads, dtype=torch.bool)
        changed[slice(None) if batch is None else batch, slice(None) if head is None else head] = True
        by_query = changed.repeat_interleave(group, 1)
        if changed.all():
            continue
        noise = subject.generator("independence", workload.id, batch, head)
        for size, how in ((LARGE, "changed"), (math.nan, "became NaN")):
            for name, values in original.items():
                where = (by_query if name == "query" else changed)[..., None, None].to(values.device)
                loud = size * torch.randn(values.shape, generator=noise)
                trial.fill(**{name: torch.where(where, loud.to(values), values)})
            moved = (trial.run(backward=False).output != before).flatten(2).any(-1).cpu() & ~by_query
            if moved.any():
                at_batch, at_head = (int(place) for place in moved.nonzero()[0])
                other = f"sequence {batch}" if head is None else f"key head {head}"
                raise Failed(f"the output of batch {at_batch}, head {at_head} changed when only {other} {how}")


def _repeatable_output(trial: Trial) -> torch.Tensor:
    """Call the variant twice and return the output, which must be identical in both calls.

    If the outputs differ, raises an exception: Failed if the first output contains NaN or Inf, otherwise Skipped.
    """
    first, second = (trial.run(backward=False).output.clone() for _ in range(2))
    if not torch.equal(first, second):
        if not first.isfinite().all():
            raise Failed("the output holds NaN or Inf")
        raise Skipped("the output for the same inputs differs from call to call, so it can't be compared bit by bit")
    return first


@check(
    "permutation",
    demands="without a mask, the order of the keys does not matter",
    why="attention is a sum over keys",
    usual_bug="an online softmax depends on the position of the largest score",
    remedy="rescale the running sum and output whenever the maximum grows",
    quick=[workload(seq_q=50, seq_k=130, direction="forward")],
    full=[workload(seq_q=50, seq_k=130, direction="forward", dtype="bfloat16")],
)
def permutation(subject: Subject, workload: Workload) -> None:
    """Check that permuting keys and values together changes the output by at most twice the tolerance."""
    trial = subject.trial(workload).refill(subject.seed_of("permutation", workload.id))
    before = trial.run().output.clone()
    order = torch.randperm(workload.seq_k, generator=subject.generator("permutation", workload.id))
    trial.fill(**{name: trial.values(name)[:, :, order.to(before.device)] for name in ("key", "value")})
    _require_agreement(trial, trial.run().output, before, "the output with keys and values in another order")


@check(
    "repeated-heads",
    demands="grouped heads give the same output as keys and values repeated for each query head",
    why="this is the definition of grouped-query attention",
    usual_bug="heads are grouped in another order",
    remedy="query head h reads key head h // group",
    quick=[workload(seq=70, heads=6, kv_heads=2, mask="causal", direction="forward")],
    full=[workload(seq=70, heads=8, kv_heads=1, direction="forward", dtype="float16")],
)
def repeated_heads(subject: Subject, workload: Workload) -> None:
    """Compare the output for grouped heads with the output for keys and values repeated for each query head."""
    grouped = subject.trial(workload).refill(subject.seed_of("repeated", workload.id))
    output = grouped.run().output.clone()
    group = workload.heads // workload.kv_heads
    repeated = subject.trial(replace(workload, kv_heads=workload.heads))
    repeated.fill(query=grouped.values("query"))
    repeated.fill(**{name: grouped.values(name).repeat_interleave(group, 1) for name in ("key", "value")})
    _require_agreement(
        grouped, output, repeated.run().output, "the output with keys and values repeated for every query head"
    )


@check(
    "decode",
    demands="a single query at the end gives the last row of the whole sequence's output",
    why="models are trained on whole sequences, but generate with single queries",
    usual_bug="top-left alignment: a single query then sees only the first key",
    remedy="align masks bottom-right: query i is at key position i + Sk - Sq",
    quick=[workload(seq=length, mask="causal", direction="forward") for length in (65, 130)],
    full=[workload(seq=200, mask=mask, direction="forward", dtype="bfloat16") for mask in ("none", "window:20:0")],
)
def decode(subject: Subject, workload: Workload) -> None:
    """Compare the output of a single query at the end with the last row of the whole sequence's output."""
    prefill = subject.trial(workload).refill(subject.seed_of("decode", workload.id))
    last_row = prefill.run().output[:, :, -1:].clone()
    step = subject.trial(replace(workload, seq_q=1, seq_k=workload.seq_k))
    step.fill(query=prefill.values("query")[:, :, -1:], key=prefill.values("key"), value=prefill.values("value"))
    answer = step.run()
    _require_agreement(step, answer.output, last_row, "the last row of the whole sequence's output")
    step.judge(answer)


def _require_agreement(trial: Trial, output: torch.Tensor, other: torch.Tensor, what: str) -> None:
    """Raise Failed if two outputs differ by more than the sum of their tolerances."""
    tier, dtype = trial.variant.tier, output.dtype
    needs_plain = tier == "plain" and dtype != torch.float32
    plain = evaluate(trial.workload, trial.inputs, dtype=dtype) if needs_plain else itertools.repeat(None)
    for piece, low in zip(evaluate(trial.workload, trial.inputs), plain, strict=False):
        tolerance = 2 * output_rule(piece, dtype, tier, low).tolerance
        got, expected = (piece.of_queries(tensor).double() for tensor in (output, other))
        error = (got - expected).norm(dim=-1)
        if not (error <= tolerance).all():
            worst = float((error / tolerance).nan_to_num(math.inf).max())
            raise Failed(f"the output differs from {what} by {worst:.3g} times the tolerance")


@check(
    "empty",
    demands="an input without queries or without sequences gives an empty answer of the right shape",
    why="serving code runs on empty batches",
    usual_bug="launching a grid of size 0 raises an error",
    remedy="return an empty tensor before launching a kernel",
    quick=[
        workload(seq_q=0, seq_k=20),
        workload(batch=0, seq=20, mask="causal"),
        workload(batch=0, seq=20, mask="padding", direction="forward"),
    ],
)
def empty(subject: Subject, workload: Workload) -> None:
    """Check that the output for an empty input has the right shape."""
    trial = subject.trial(workload)
    trial.judge(trial.run())
