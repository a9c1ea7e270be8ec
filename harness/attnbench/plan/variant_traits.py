"""The traits (optional properties) of variants, tested once for each source and environment and cached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import CheckRequest, CheckResultNotice, Notice
from attnbench.plugins.variant import TRAITS
from attnbench.user_cache import read_cached, write_cached

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device

TIMEOUT_S = 20.0  # for one test, and for the plugin's import
# What a trait's tests say of it, by their status; the first status in this order that occurs counts.
HOLDS = {"failed": "no, though claimed", "hint": "no", "passed": "yes", "skipped": "not run"}


def holds(statuses: set[str]) -> str:
    """Return whether a trait holds, as a value of HOLDS, from the statuses of its tests."""
    return next(text for status, text in HOLDS.items() if status in statuses)


def tested_traits(device: Device, variants: Iterable[VariantEntry], environment_id: str) -> dict[str, dict[str, str]]:
    """Return by variant and by trait whether the trait holds on the device, as a value of HOLDS.

    Variants are left out if they are not exact attention, need several devices, or are not run by default on this kind
    of device, and also if their tests end the worker or take too long.
    """
    name = f"traits-{environment_id}-{device.name.replace(':', '-')}.json"
    kept = read_cached(name)
    known: dict[str, dict[str, str]] = kept if _is_wellformed(kept) else {}
    wanted = [each for each in variants if each.exact and each.ranks == 1 and device.kind in each.default_on]
    found = {variant: _test(variant, device) for variant in wanted if _key(variant) not in known}
    if found:
        known |= {_key(variant): traits for variant, traits in found.items() if traits}
        write_cached(name, known)
    return {variant.name: known[_key(variant)] for variant in wanted if _key(variant) in known}


def _test(variant: VariantEntry, device: Device) -> dict[str, str]:
    statuses: dict[str, set[str]] = {}

    def keep_status(notice: Notice) -> None:
        if isinstance(notice, CheckResultNotice):
            statuses.setdefault(notice.result["check"], set()).add(notice.result["status"])

    request = CheckRequest(variant.source, variant.name, device.torch_name, level="quick", only=list(TRAITS))
    worker = WorkerProcess(device.worker_environment(), device.cores, host_memory(device.kind))
    try:
        worker.request(request, lambda _: TIMEOUT_S, keep_status)
    except (WorkerLostError, KeyError, TypeError):
        return {}
    finally:
        worker.stop()
    return {trait: holds(statuses[trait]) for trait in TRAITS if trait in statuses}


def _key(variant: VariantEntry) -> str:
    return f"{variant.name}@{variant.sha256}"


def _is_wellformed(kept: Any) -> bool:
    return isinstance(kept, dict) and all(
        isinstance(traits, dict)
        and all(trait in TRAITS and verdict in HOLDS.values() for trait, verdict in traits.items())
        for traits in kept.values()
    )
