"""The traits (optional properties) of variants.

Traits are tested once for each version of a variant's source in each environment, and the verdicts are cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attnbench.isolation.memory_limit import host_memory
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import CheckRequest, CheckResultNotice, DoneReply, Notice
from attnbench.plugins.variant import TRAITS
from attnbench.user_cache import read_cached, write_cached

if TYPE_CHECKING:
    from attnbench.plan.catalog import VariantEntry
    from attnbench.plan.devices import Device

TIMEOUT_S = 120.0  # applies to each test and to the import of the plugin
# The verdict on a trait for each test status. If the tests of a trait have different statuses, the one that is listed
# first here decides.
VERDICTS = {"failed": "no, though claimed", "hint": "no", "passed": "yes", "skipped": "not run"}


def holds(statuses: set[str]) -> str:
    """Return the verdict on a trait (a value of VERDICTS), given the statuses of the trait's tests."""
    return next(verdict for status, verdict in VERDICTS.items() if status in statuses)


def tested_traits(device: Device, variants: Iterable[VariantEntry], environment_id: str) -> dict[str, dict[str, str]]:
    """Return the verdict on each trait of each variant on a device, keyed by variant name and then by trait.

    The verdicts are values of VERDICTS. A variant is left out if it does not compute exact attention, needs several
    devices, or does not run by default on this kind of device. A variant is also left out if one of its tests
    crashes the worker, causes a CUDA error or takes too long.
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
        reply = worker.request(request, lambda _: TIMEOUT_S, keep_status)
    except (WorkerLostError, KeyError, TypeError):
        return {}
    finally:
        worker.stop()
    if isinstance(reply, DoneReply) and reply.tests_remain:
        return {}
    return {trait: holds(statuses[trait]) for trait in TRAITS if trait in statuses}


def _key(variant: VariantEntry) -> str:
    return f"{variant.name}@{variant.sha256}"


def _is_wellformed(kept: Any) -> bool:
    return isinstance(kept, dict) and all(
        isinstance(traits, dict)
        and all(trait in TRAITS and verdict in VERDICTS.values() for trait, verdict in traits.items())
        for traits in kept.values()
    )
