"""Answers on random inputs against the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.conformance.trial import Subject
    from attnbench.workload import Workload


def answer(subject: Subject, workload: Workload) -> None:
    """Compare output, and gradients where the direction has them, on fresh random inputs."""
    trial = subject.trial(workload)
    trial.refill(subject.seed_of("answer", workload.id))
    trial.judge(trial.run())


def empty(subject: Subject, workload: Workload) -> None:
    """Demand an empty answer of the right shape, or zeros where only the keys are missing."""
    trial = subject.trial(workload)
    trial.judge(trial.run())
