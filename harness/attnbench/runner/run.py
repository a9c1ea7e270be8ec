"""Start runs and execute their plans."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import store
from attnbench.errors import StorageError, UsageError
from attnbench.isolation import forkserver_client
from attnbench.isolation.cleanup import clear_abandoned
from attnbench.machine.utc_clock import utc_now
from attnbench.plan.environment import machine_facts
from attnbench.record import SCHEMA, Record
from attnbench.runner import locks
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.local_executor import LOCAL_EXECUTOR, Executor
from attnbench.runner.observer_process import Observers
from attnbench.runner.run_listener import RunListener

if TYPE_CHECKING:
    from attnbench.plan.catalog import Catalog
    from attnbench.plan.cells import Cell, Plan
    from attnbench.runner.request import Request
    from attnbench.runner.scheduler import RunSummary


def start(request: Request, catalog: Catalog, plan: Plan) -> Path:
    """Create the folder of a new run, write its manifest, and return the folder's path.

    Raises UsageError if the run's name is invalid or already in use, or if the disk has too little space for the
    records.
    """
    name = request.name or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if not name.strip(".") or "/" in name or "\0" in name:
        raise UsageError(f"invalid run name {name!r}: expected a folder name without '/'")
    store.require_space(request.results, len(plan.cells))
    return store.create_run(request.results, name, manifest_of(name, request, catalog, plan))


def execute(
    run: Path,
    catalog: Catalog,
    plan: Plan,
    *,
    executor: Executor = LOCAL_EXECUTOR,
    limits: CellLimits | None = None,
    listener: RunListener | None = None,
) -> RunSummary:
    """Run all cells of a plan, store their records in the run's folder, and return a summary.

    `listener` receives the run's events. Raises UsageError if another process is using one of the devices or the run's
    folder, and StorageError if the disk is full. If a new run can't start, its folder is removed.
    """
    began = time.monotonic()
    listener = listener or RunListener()
    clear_abandoned()
    with ExitStack() as held:
        with _new_run_removed(run, StorageError):  # a UsageError means that another process executes the run
            held.enter_context(locks.hold_run(run))
        with _new_run_removed(run):
            held.enter_context(executor.reserve(run, plan))
            observers = held.enter_context(Observers(catalog, run / "logs" / "observers.log"))
        cell_started, record_stored = _reporters(listener, observers)
        manifest = store.read_manifest(run)
        listener.run_started(manifest)
        observers.notify("run_started", manifest)
        try:
            summary = executor.execute(run, plan, cell_started, record_stored, limits or CellLimits())
            observers.notify("run_ended", dict(summary.statuses))
            summary.extend_to(time.monotonic() - began)
            _conclude(run, summary, observers.problems)
        except StorageError as error:
            raise StorageError(f"{error}; free some disk space, then continue with: {resume_command(run)}") from error
    forkserver_client.end_idle()
    for problem in observers.problems:
        listener.observer_failed(problem)
    return summary


@contextmanager
def _new_run_removed(run: Path, error: type[Exception] = Exception) -> Iterator[None]:
    """Remove the run's folder if the context raises an exception of the type `error`, unless the run is not new."""
    started = store.DOCTOR in store.read_manifest(run) or any(run.glob("records-*.jsonl"))
    with nullcontext() if started else store.removed_on_failure(run, error):
        yield


def _reporters(listener: RunListener, observers: Observers) -> tuple[Callable[[Cell], None], Callable[[Record], None]]:
    """Return a function that reports that a cell has started, and one that reports stored records.

    Both functions report to the listener and to the observers. An OSError of the listener is ignored: a run goes on if
    its output can no longer be shown, for example because the terminal was closed.
    """

    def cell_started(cell: Cell) -> None:
        with suppress(OSError):
            listener.cell_started(cell)
        observers.notify("cell_started", cell.to_json())

    def record_stored(record: Record) -> None:
        with suppress(OSError):
            listener.record_stored(record)
        observers.notify("record_stored", json.loads(record.to_line()))

    return cell_started, record_stored


def _conclude(run: Path, summary: RunSummary, problems: Sequence[str]) -> None:
    """Add the run's summary, its end time and the observers' problems to the manifest."""
    manifest = store.read_manifest(run)
    manifest["observers"] = {"problems": list(problems)}
    manifest["ended_at"] = utc_now()
    manifest["summary"] = {**vars(summary), "statuses": store.statuses(run)}
    store.write_manifest(run, manifest)


def resume_command(run: Path) -> str:
    """Return the command line that resumes a run."""
    return f"attnbench run --resume {shlex.quote(str(run))}"


def manifest_of(name: str, request: Request, catalog: Catalog, plan: Plan) -> dict[str, Any]:
    """Return the manifest of a new run, which includes its plan, environments, plugins and git state."""
    return {
        "schema": SCHEMA,
        "run_id": name,
        "started_at": utc_now(),
        "machine": machine_facts(),
        "environments": dict(plan.environments),
        "plugin_arguments": [
            str(Path(plugin).resolve()) if Path(plugin).is_file() else plugin for plugin in request.plugins
        ],
        "devices": [device.name for device in plan.devices],
        "every_device": request.every_device,
        "frontier": sorted({cell.workload.id for cell in plan.frontier}),
        "protocols": {kind: protocol.to_json() for kind, protocol in plan.protocols.items()},
        "plugins": [
            {
                "name": plugin.source.name,
                "origin": plugin.source.origin,
                "source": plugin.source.to_json(),
                "reason": plugin.reason,
                "variants": {variant.name: variant.sha256 for variant in plugin.variants},
            }
            for plugin in catalog.plugins
        ],
        "variants": {
            variant.name: {
                "tier": variant.tier,
                "layout": variant.layout,
                "baseline": variant.baseline,
                "claims": list(variant.traits),
                "alignment_bytes": variant.alignment_bytes,
            }
            for variant in dict.fromkeys(cell.variant for cell in (*plan.cells, *plan.frontier))
        },
        "plan": [cell.to_json() for cell in plan.cells],
    }
