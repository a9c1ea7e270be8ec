"""The `attnbench explain` command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import ResultsFolder
from attnbench.errors import UsageError


def explain(
    cell: Annotated[str, typer.Argument(help="The cell's id, or the beginning of the id.")],
    results: ResultsFolder = Path("results"),
) -> None:
    """Show a cell's result, whether it is stale, and how to rerun the cell."""
    from attnbench import store
    from attnbench.plan.rerun import rerun_command
    from attnbench.plan.stale import stale_reasons

    found = [
        (run, record)
        for run in store.list_runs(results)
        for record in store.read_run(run).records
        if record.cell_id.startswith(cell) and not record.control
    ]
    if not found:
        raise UsageError(f"no cell {cell!r} under {str(results)!r}: `attnbench list runs` shows the runs")
    for run, record in found:
        print(f"{record.cell_id}  {record.variant}  {record.workload.id}  {record.device} ({record.device_name})")
        manifest = store.read_manifest(run)
        changes = stale_reasons(record, manifest)
        print(f"  {run.name}: {record.status}{': ' + record.reason if record.reason else ''}")
        print(f"  now:   {'stale: ' + '; '.join(changes) if changes else 'up to date'}")
        if record.log:
            print(f"  log:   {run / record.log}")
        print(f"  again: {shlex.join(rerun_command(record.variant, record.workload, record.device, manifest))}")
