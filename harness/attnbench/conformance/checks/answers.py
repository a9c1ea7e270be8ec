"""Answers on random inputs against the reference."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from attnbench.conformance.checks import log_sum_exp
from attnbench.conformance.sampling import across, keep_rows
from attnbench.reference import evaluate, in_bhsd

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload


def answer(subject: Subject, workload: Workload) -> None:
    """Compare output, gradients where the direction has them, and the log-sum-exp where it is offered."""
    trial = subject.trial(workload)
    trial.refill(subject.seed_of("answer", workload.id))
    trial.judge(trial.run())
    if subject.variant.exact and (found := log_sum_exp.offered(trial)) is not None:
        for piece in evaluate(workload, trial.inputs):
            log_sum_exp.judge(piece, found[1].detach())


def sampled(subject: Subject, workload: Workload) -> None:
    """Compare at sampled rows, with a grad_output that is 0 elsewhere: all that a long workload can afford."""
    trial = subject.trial(workload)
    seed = subject.seed_of("sampled", workload.id)
    trial.refill(seed)
    sample = across(workload, subject.device, random.Random(seed))  # noqa: S311 - a seeded choice, not a secret
    if trial.inputs.grad_output is not None and not sample.dense:
        keep_rows(in_bhsd(trial.inputs.grad_output, trial.inputs.layout), sample.part.rows)
    trial.judge(trial.run(), sample.part)


def empty(subject: Subject, workload: Workload) -> None:
    """Demand an empty answer of the right shape, or zeros where only the keys are missing."""
    trial = subject.trial(workload)
    trial.judge(trial.run())
