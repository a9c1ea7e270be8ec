"""Run the conformance suite on one variant in worker processes, so that a crash affects only the current test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from attnbench.errors import AttnbenchError, UsageError
from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import (
    CheckRequest,
    CheckResultNotice,
    CheckStartNotice,
    DoneReply,
    ExplainReply,
    ExplainRequest,
    Notice,
    failure_reason,
)

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device

MAX_CRASHES = 5  # once a variant has crashed or caused a CUDA error this many times, its remaining tests are not run


def check_variant(
    variant: VariantEntry,
    device: Device,
    *,
    level: Literal["quick", "full", "thorough"],
    timeout_s: float,
    on_result: Callable[[dict[str, Any]], None],
    only: Sequence[str] | None = None,
    seed: int = 0,
    plugin: str | None = None,
) -> None:
    """Run the conformance suite at `level` and call `on_result` with the result of each test.

    A result is a `CheckResult` in its JSON form. If the worker exits during a test, or if a test takes longer than
    `timeout_s` seconds, the test fails and a new worker continues with the next test. A new worker also continues
    after a test with a CUDA error, because the process can no longer rely on its GPU. Raises AttnbenchError if the
    variant can't be loaded.
    """
    only = None if only is None else list(only)
    request = CheckRequest(variant.source, variant.name, device.torch_name, level, seed, only, plugin)
    done: list[str] = []
    for _ in range(MAX_CRASHES):
        started: list[CheckStartNotice] = []

        def take(notice: Notice, started: list[CheckStartNotice] = started) -> None:
            if isinstance(notice, CheckStartNotice):
                started.append(notice)
            elif isinstance(notice, CheckResultNotice):
                done.append(notice.id)
                on_result(_of_ended_process(notice.result) if notice.result.get("gpu_lost") else notice.result)

        ended = _one_worker(device, msgspec.structs.replace(request, done=done), timeout_s, take)
        if isinstance(ended, DoneReply):
            if not ended.tests_remain:
                return
            continue
        if not started:
            raise AttnbenchError(f"variant {variant.name} can't be checked: {ended.reason}")
        done.append(started[-1].id)
        on_result(_failed(started[-1], ended.reason))
    on_result(
        {
            "check": "remaining checks",
            "workload_id": "",
            "status": "failed",
            "reason": f"not run, because the variant crashed or caused a CUDA error in {MAX_CRASHES} tests",
        }
    )


def _of_ended_process(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a test after which the worker was replaced, with a reason that says so."""
    return {**result, "reason": f"{result['reason']}. The process was ended, and further tests run in a new one."}


def _failed(test: CheckStartNotice, reason: str) -> dict[str, Any]:
    """Return the result of a test during which the worker was lost."""
    return {
        "check": test.check,
        "workload_id": test.workload_id,
        "remedy": test.remedy,
        "repro": test.repro,
        "status": "failed",
        "reason": reason,
    }


def explain_check(name: str) -> str:
    """Return an explanation of a check: what it requires, why, and which bug usually makes a variant fail it.

    Raises UsageError if no check has this name.
    """
    worker = WorkerProcess({"CUDA_VISIBLE_DEVICES": ""})
    try:
        reply = worker.request(ExplainRequest(name), lambda _: 120.0)
    finally:
        worker.stop()
    if isinstance(reply, ExplainReply):
        return reply.text
    raise UsageError(failure_reason(reply))


def _one_worker(
    device: Device, request: CheckRequest, timeout_s: float, take: Callable[[Notice], None]
) -> WorkerLostError | DoneReply:
    worker = WorkerProcess(device.worker_environment(), device.cores, host_memory(device.kind))
    try:
        reply = worker.request(request, lambda _: timeout_s, take)
    except WorkerLostError as lost:
        return lost
    finally:
        worker.stop()
    if not isinstance(reply, DoneReply):
        raise UsageError(failure_reason(reply))
    return reply
