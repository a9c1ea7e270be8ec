"""Shell completion of option values. In a comma-separated list, the last value is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


def last_of(offered: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a function that completes the last value of a comma-separated list from the values that `offered` returns.

    If an error occurs, the returned function suggests nothing.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        try:
            return [f"{before}{comma}{name}" for name in offered() if name.startswith(last)]
        except Exception:  # noqa: BLE001 - an error message would disturb the line that the user is typing
            return []

    return complete


def variants() -> Iterable[str]:
    """Return the names of the variants. A plugin's variants are read from the cache if possible."""
    from attnbench.plan.catalog import read_catalog

    return read_catalog().variants


def suites() -> Iterable[str]:
    """Return the names of the built-in suites."""
    from attnbench.workloads.suite import built_in_suites

    return built_in_suites()


def devices() -> Iterable[str]:
    """Return the names of this machine's devices."""
    from attnbench.plan.devices import list_devices

    return [device.name for device in list_devices()]


def runs() -> Iterable[str]:
    """Return the names of the runs in the default results folder."""
    from attnbench.store import list_runs

    return [run.name for run in list_runs(Path("results"))]


def studies() -> Iterable[str]:
    """Return the names of the studies and the word `list`, which can be given instead of a name."""
    from attnbench.study import MODULES

    return ["list", *MODULES]
