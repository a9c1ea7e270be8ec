"""Find the unsupported cells of a plan before any input is allocated."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.isolation.worker_process import isolated_query
from attnbench.messages import SupportNotice, SupportQuestion, SupportRequest
from attnbench.plan.placement import placement_problem

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.cells import Plan
    from attnbench.plan.devices import Device
    from attnbench.workloads.workload import Workload

ANSWER_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class SupportAnswers:
    """The reasons why variants do not support workloads on a device.

    There are no reasons for a variant that raised an exception or crashed the worker when it was queried. Its cells are
    run anyway, and their records say what happened.
    """

    device: Device
    reasons: dict[tuple[str, str], str]  # key: (variant name, workload id)

    def reason(self, variant: VariantEntry, workload: Workload) -> str | None:
        """Return why a variant can't run a workload, or None if the variant can run it."""
        return placement_problem(self.device, variant, workload) or self.reasons.get((variant.name, workload.id))


def ask_support(device: Device, variants: Iterable[VariantEntry], workloads: Iterable[Workload]) -> SupportAnswers:
    """Ask variants in a single worker which workloads they do not support on a device, and return the answers.

    The answers are cached in memory.
    """
    return _answers(device, tuple(dict.fromkeys(variants)), tuple(dict.fromkeys(workloads)))


@functools.lru_cache
def _answers(device: Device, variants: tuple[VariantEntry, ...], workloads: tuple[Workload, ...]) -> SupportAnswers:
    unique = {variant.name: variant for variant in variants}
    questions = [SupportQuestion(name, variant.source) for name, variant in unique.items()]
    request = SupportRequest(questions, [workload.share for workload in workloads], device.kind)
    answers, _ = isolated_query(request, SupportNotice, device.worker_environment(), ANSWER_TIMEOUT_S)
    return SupportAnswers(
        device,
        {
            (answer.variant, workload.id): reason
            for answer in answers
            for workload, reason in zip(workloads, answer.reasons, strict=True)
            if reason is not None
        },
    )


def unsupported_reasons(plan: Plan) -> dict[str, str]:
    """Return the reason for each unsupported cell of a plan, by cell_id. Devices are queried in parallel."""
    devices = [group[0] for group in plan.device_groups]  # a cell's device is always the first device of its group
    with ThreadPoolExecutor() as threads:
        answers = dict(zip(devices, threads.map(lambda device: support_of(plan, device), devices), strict=True))
    return {
        cell.cell_id: reason
        for cell in plan.cells
        if (reason := answers[cell.device].reason(cell.variant, cell.workload)) is not None
    }


def support_of(plan: Plan, device: Device) -> SupportAnswers:
    """Ask the variants of a plan's cells on a device which workloads they do not support, and return the answers."""
    cells = [cell for cell in plan.cells if cell.device == device]
    if not cells:
        return SupportAnswers(device, {})
    return ask_support(device, (cell.variant for cell in cells), (cell.workload for cell in cells))
