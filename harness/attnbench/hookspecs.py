"""The hooks that a plugin may implement. No hook is called while a call is timed.

Hooks for variants and suites are called in worker processes. Observer hooks are called in a separate process, so that a
slow or broken observer can't affect a measurement. The arguments of observer hooks are JSON values.
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
    """Return suites, each as a dict with the same keys as a suite's TOML file."""


@hookspec
def attnbench_modules() -> Iterable[str]:  # type: ignore[empty-body]
    """Return the names of further modules to load as separate plugins. An error in one does not affect the others."""


@hookspec
def attnbench_run_started(manifest: dict[str, Any]) -> None:
    """Observe the start of a run. `manifest` contains the run's plan, environments and package versions."""


@hookspec
def attnbench_cell_started(cell: dict[str, Any]) -> None:
    """Observe the start of a cell. `cell` has `cell_id`, `variant`, `workload` and `device`."""


@hookspec
def attnbench_record_stored(record: dict[str, Any]) -> None:
    """Observe that a record was stored. `record` has the fields of the record schema."""


@hookspec
def attnbench_run_ended(summary: dict[str, Any]) -> None:
    """Observe the end of a run. `summary` has the number of records with each status."""
