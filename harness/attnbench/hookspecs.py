"""The hooks that a plugin may implement; none is called in a timed region.

Variants and suites are asked for in worker processes. Observers run in a process of their own, so that
neither a slow nor a broken one touches a measurement. Arguments of observers are JSON values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant

PROJECT = "attnbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def attnbench_variants() -> Iterable[Variant]:  # type: ignore[empty-body]
    """Return the variants that the plugin offers."""


@hookspec
def attnbench_suites() -> Iterable[dict[str, Any]]:  # type: ignore[empty-body]
    """Return suites, each a dict as a suite's TOML file would give it."""


@hookspec
def attnbench_modules() -> Iterable[str]:  # type: ignore[empty-body]
    """Return the names of further modules to load as plugins of their own, each guarded by itself."""


@hookspec
def attnbench_run_started(manifest: dict[str, Any]) -> None:
    """Observe that a run starts; `manifest` holds its plan, environment and versions."""


@hookspec
def attnbench_cell_started(cell: dict[str, Any]) -> None:
    """Observe that a cell starts; `cell` holds `cell_id`, `variant`, `workload` and `device`."""


@hookspec
def attnbench_record_stored(record: dict[str, Any]) -> None:
    """Observe a record that was stored; `record` is in the record schema."""


@hookspec
def attnbench_run_ended(summary: dict[str, Any]) -> None:
    """Observe that a run ended; `summary` counts its records by status."""
