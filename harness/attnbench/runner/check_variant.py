"""The conformance suite on one variant, run in workers so that a crash costs one test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError, UsageError
from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.process import WorkerLostError, WorkerProcess

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device

MOST_CRASHES = 5  # of one variant, after which the rest of its tests is not tried


def check_variant(
    variant: VariantEntry,
    device: Device,
    *,
    level: str,
    timeout_s: float,
    heard: Callable[[dict[str, Any]], None],
    only: Sequence[str] | None = None,
    seed: int = 0,
    plugin: str | None = None,
) -> None:
    """Run the suite at `level` (quick, full, thorough); `heard` gets each test's result as a CheckResult's JSON.

    A test that ends the worker, or takes over `timeout_s`, has failed; a new worker goes on with the next.
    """
    done: dict[str, str] = {}
    options = {"level": level, "seed": seed, "only": only, "plugin": plugin}
    for _ in range(MOST_CRASHES):
        touched: list[dict[str, Any]] = []

        def take(message: dict[str, Any], touched: list[dict[str, Any]] = touched) -> None:
            if "about" in message:
                touched.append(message)
            if "answer" in message:
                done[message["answer"].pop("id")] = "done"
                heard(message["answer"])

        request = {
            "source": variant.source.to_json(),
            "variant": variant.name,
            "device": device.torch_name,
            "options": options,
            "skip": done,
        }
        lost = _one_worker(device, request, timeout_s, take)
        if lost is None:
            return
        if not touched:
            raise AttnbenchError(f"variant {variant.name} can't be checked: {lost.reason}")
        last = touched[-1]
        done[last["about"]] = "lost"
        told = {name: last[name] for name in ("check", "workload_id", "remedy", "repro")}
        heard({**told, "status": "failed", "reason": lost.reason})
    heard(
        {"check": "all others", "workload_id": "", "status": "failed", "reason": f"not tried: {MOST_CRASHES} crashes"}
    )


def explain_check(name: str) -> str:
    """Say what a check demands, why, and the usual bug behind it; raises UsageError for an unknown one."""
    worker = WorkerProcess({"CUDA_VISIBLE_DEVICES": ""})
    try:
        reply = worker.request("explain_check", lambda _: 120.0, name=name)
    finally:
        worker.stop()
    if reply["status"] == "unknown":
        raise UsageError(reply["reason"])
    return str(reply["text"])


def _one_worker(
    device: Device, request: dict[str, Any], timeout_s: float, take: Callable[[dict[str, Any]], None]
) -> WorkerLostError | None:
    worker = WorkerProcess(device.worker_environment(), device.cores, host_memory(device.kind))
    try:
        reply = worker.request("check", lambda _: timeout_s, take, **request)
    except WorkerLostError as lost:
        return lost
    finally:
        worker.stop()
    if reply["status"] != "ready":
        raise UsageError(reply["reason"])
    return None
