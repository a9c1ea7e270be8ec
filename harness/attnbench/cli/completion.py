"""What a shell offers while a command is typed; comma-separated values are completed one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


def last_of(offered: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Complete the last of comma-separated values by what is offered; whatever goes wrong offers nothing."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        try:
            return [f"{before}{comma}{name}" for name in offered() if name.startswith(last)]
        except Exception:  # noqa: BLE001 - a message would land in the middle of the user's line
            return []

    return complete


def variants() -> Iterable[str]:
    """Name the variants; plugins that were described before are not imported for it."""
    from attnbench.plan.catalog import read_catalog

    return read_catalog().variants


def suites() -> Iterable[str]:
    """Name the built-in suites."""
    from attnbench.workloads.suite import built_in_suites

    return built_in_suites()


def devices() -> Iterable[str]:
    """Name this machine's devices."""
    from attnbench.plan.devices import list_devices

    return [device.name for device in list_devices()]


def runs() -> Iterable[str]:
    """Name the runs in the usual folder."""
    from attnbench.store import list_runs

    return [run.name for run in list_runs(Path("results"))]


def studies() -> Iterable[str]:
    """Name the studies."""
    from attnbench.study import MODULES

    return ["list", *MODULES]
