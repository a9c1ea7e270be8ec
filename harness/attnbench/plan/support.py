"""What will be unsupported, asked before anything is made."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.isolation.isolated_query import isolated_query
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
    """The reasons that variants give; a variant whose answer ended the worker has none here and is simply tried."""

    device: Device
    reasons: dict[tuple[str, str], str]  # by variant's name and workload's id

    def reason(self, variant: VariantEntry, workload: Workload) -> str | None:
        """Why a variant can't do a workload, or None."""
        return placement_problem(self.device, variant, workload) or self.reasons.get((variant.name, workload.id))


def ask_support(device: Device, variants: Iterable[VariantEntry], workloads: Iterable[Workload]) -> SupportAnswers:
    """Ask all variants about all workloads on one device, in one worker; what was asked once is known."""
    return _asked(device, tuple(dict.fromkeys(variants)), tuple(dict.fromkeys(workloads)))


@functools.lru_cache
def _asked(device: Device, variants: tuple[VariantEntry, ...], workloads: tuple[Workload, ...]) -> SupportAnswers:
    unique = {variant.name: variant for variant in variants}
    questions = [SupportQuestion(name, variant.source.to_json()) for name, variant in unique.items()]
    request = SupportRequest(questions, [workload.share.to_json() for workload in workloads], device.kind)
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
    """Give why cells of a plan will be unsupported, by cell_id; devices are asked side by side."""
    devices = [pool[0] for pool in plan.device_groups]  # those that the cells name
    with ThreadPoolExecutor() as threads:
        answers = dict(zip(devices, threads.map(lambda device: support_of(plan, device), devices), strict=True))
    return {
        cell.cell_id: reason
        for cell in plan.cells
        if (reason := answers[cell.device].reason(cell.variant, cell.workload)) is not None
    }


def support_of(plan: Plan, device: Device) -> SupportAnswers:
    """Ask the variants of a device's cells about its workloads."""
    cells = [cell for cell in plan.cells if cell.device == device]
    if not cells:
        return SupportAnswers(device, {})
    return ask_support(device, (cell.variant for cell in cells), (cell.workload for cell in cells))
