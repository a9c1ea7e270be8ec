"""Checks of traits: properties that correct variants may lack. A trait is demanded only of variants that claim it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.check import Failed, check
from attnbench.conformance.check_workloads import workload
from attnbench.reference import in_bhsd, visible

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

CALLS = 4  # number of calls compared with the first call
WORKLOADS = (workload(seq=130, mask="causal"), workload(seq=130, mask="causal", dtype="bfloat16"))


@check(
    "nan-safe",
    demands="NaN or Inf in hidden keys and values does not reach the output",
    why="padding is often uninitialised memory; correct variants differ here, because 0 times NaN is NaN",
    usual_bug="hidden values are multiplied by a weight of 0",
    remedy="set hidden values to 0 before the product, or skip them",
    quick=WORKLOADS,
    trait=True,
)
def nan_safe(subject: Subject, workload: Workload) -> None:
    """Check that NaN and Inf in keys and values do not change the output of rows that don't see them."""
    trial = subject.trial(workload).refill(subject.seed_of("nan", workload.id))
    before = trial.run().output.clone()
    original = {name: trial.values(name) for name in ("key", "value")}
    hidden = torch.arange(workload.seq_k) >= workload.seq_k // 2
    rows = torch.arange(workload.seq_q, device=before.device)
    for poison in (float("nan"), float("inf")):
        for name, values in original.items():
            trial.fill(**original)
            where = torch.zeros(workload.batch, 1, workload.seq_k, 1, dtype=torch.bool)
            blind = []
            for batch in range(workload.batch):
                seen = visible(workload, trial.inputs, batch, rows).cpu()
                blind.append(~(seen & hidden).any(-1))
                where[batch, 0, :, 0] = hidden
            trial.fill(**{name: values.masked_fill(where.to(values.device), poison)})
            after = in_bhsd(trial.output().detach(), trial.inputs.layout)
            compared = torch.stack(blind)[:, None, :, None].to(after.device)
            if not torch.equal(torch.where(compared, after, 0.0), torch.where(compared, before, 0.0)):
                raise Failed(f"{poison} in a hidden {name} reaches rows that don't see it")


@check(
    "repeatable",
    demands="repeated calls on the same inputs return bitwise identical outputs and gradients",
    why="bisecting a training run requires this trait, and atomic additions prevent it",
    usual_bug="gradients are summed by atomic additions",
    remedy="offer a deterministic mode, or don't claim the trait",
    quick=WORKLOADS,
    trait=True,
)
def repeatable(subject: Subject, workload: Workload) -> None:
    """Check that repeated calls on the same inputs return bitwise identical outputs and gradients."""
    trial = subject.trial(workload).refill(subject.seed_of("repeatable", workload.id))
    first = [tensor.clone() for tensor in trial.run().tensors]
    for _ in range(CALLS):
        again = trial.run().tensors
        for name, before, after in zip(("output", "dquery", "dkey", "dvalue"), first, again, strict=False):
            if not torch.equal(before, after):
                raise Failed(f"{name} differs from call to call, by up to {float((before - after).abs().max()):.3g}")


@check(
    "batch-invariant",
    demands="the output of a sequence is bitwise identical whether it is computed alone or in a batch",
    why="reproducible serving requires this trait",
    usual_bug="the number of splits or the tile size depends on the batch size",
    remedy="use a fixed split, or don't claim the trait",
    quick=WORKLOADS,
    trait=True,
)
def batch_invariant(subject: Subject, workload: Workload) -> None:
    """Check that the output of a sequence is bitwise identical whether it is computed alone or in a batch."""
    trial = subject.trial(workload).refill(subject.seed_of("batch", workload.id))
    together = trial.run().output[:1].clone()
    alone = subject.trial(replace(workload, batch=1))
    alone.fill(**{name: trial.values(name)[:1] for name in ("query", "key", "value")})
    apart = alone.run().output
    if not torch.equal(together, apart):
        raise Failed(
            f"the output of a sequence alone differs from its output in a batch, by up to "
            f"{float((together - apart).abs().max()):.3g}"
        )


@check(
    "empty-keys",
    demands="without any keys, the output is 0",
    why="cross-attention may have an empty context",
    usual_bug="a loop over the keys never writes the output",
    remedy="initialise the output with 0",
    quick=[workload(seq_q=20, seq_k=0, direction="forward")],
    trait=True,
)
def empty_keys(subject: Subject, workload: Workload) -> None:
    """Check that the output is 0 if there are no keys."""
    trial = subject.trial(workload)
    trial.judge(trial.run())
