"""Traits: properties in which honest variants differ; found out, reported, and demanded of those that claim them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnbench.conformance import check_workloads as of
from attnbench.conformance.check import Check, Failed
from attnbench.reference import visible

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

CALLS = 4


def nan_safe(subject: Subject, workload: Workload) -> None:
    """NaN or Inf in keys and values that no query of a row sees stays out of that row's output."""
    trial = subject.trial(workload).refill(subject.seed_of("nan", workload.id))
    before = trial.run().output.clone()
    keep = {name: trial.values(name) for name in ("key", "value")}
    hidden = torch.arange(workload.seq_k) >= workload.seq_k // 2
    rows = torch.arange(workload.seq_q, device=before.device)
    for poison in (float("nan"), float("inf")):
        for name, values in keep.items():
            trial.fill(**keep)
            where = torch.zeros(workload.batch, 1, workload.seq_k, 1, dtype=torch.bool)
            blind = []
            for batch in range(workload.batch):
                seen = visible(workload, trial.inputs, batch, rows).cpu()
                blind.append(~(seen & hidden).any(-1))
                where[batch, 0, :, 0] = hidden
            trial.fill(**{name: values.masked_fill(where.to(values.device), poison)})
            after = trial.output().detach()
            after = after if trial.inputs.layout == "BHSD" else after.transpose(1, 2)
            kept = torch.stack(blind)[:, None, :, None].to(after.device)
            if not torch.equal(torch.where(kept, after, 0.0), torch.where(kept, before, 0.0)):
                raise Failed(f"{poison} in a hidden {name} reaches rows that don't see it")


def repeatable(subject: Subject, workload: Workload) -> None:
    """Demand that the same inputs give the same output and gradients, bit by bit, at each call."""
    trial = subject.trial(workload).refill(subject.seed_of("repeatable", workload.id))
    first = [tensor.clone() for tensor in trial.run().tensors]
    for _ in range(CALLS):
        for name, one, other in zip(("output", "dquery", "dkey", "dvalue"), first, trial.run().tensors, strict=False):
            if not torch.equal(one, other):
                raise Failed(f"{name} differs from call to call, by up to {float((one - other).abs().max()):.3g}")


def batch_invariant(subject: Subject, workload: Workload) -> None:
    """Demand that a sequence's output has the same bits alone as in a batch."""
    trial = subject.trial(workload).refill(subject.seed_of("batch", workload.id))
    together = trial.run().output[:1].clone()
    alone = subject.trial(replace(workload, batch=1))
    alone.fill(**{name: trial.values(name)[:1] for name in ("query", "key", "value")})
    apart = alone.run().output
    if not torch.equal(together, apart):
        raise Failed(
            f"a sequence alone differs from itself in a batch, by up to {float((together - apart).abs().max()):.3g}"
        )


def empty_keys(subject: Subject, workload: Workload) -> None:
    """Without any key the output is 0."""
    trial = subject.trial(workload)
    trial.judge(trial.run())


TRAITS = (
    Check(
        "nan-safe",
        "NaN or Inf in hidden keys and values stays out of the output",
        "padding is often uninitialised memory; yet honest variants differ, since 0 times NaN is NaN",
        "hidden values are multiplied by a weight of 0",
        "set hidden values to 0 before the product, or skip them",
        nan_safe,
        of.TRAITS,
        trait=True,
    ),
    Check(
        "repeatable",
        "the same inputs give the same bits at each call, gradients included",
        "needed to bisect a training run; atomic additions do without",
        "gradients summed by atomic additions",
        "offer a deterministic mode, or don't claim the trait",
        repeatable,
        of.TRAITS,
        trait=True,
    ),
    Check(
        "batch-invariant",
        "a sequence's output has the same bits alone as in a batch",
        "needed for reproducible serving",
        "the number of splits or the tile size depends on the batch",
        "fix the splits, or don't claim the trait",
        batch_invariant,
        of.TRAITS,
        trait=True,
    ),
    Check(
        "empty-keys",
        "without any key the output is 0",
        "cross attention to an empty context",
        "a loop over keys that never writes the output",
        "initialise the output with 0",
        empty_keys,
        of.EMPTY_KEYS,
        trait=True,
    ),
)
