"""`attnbench list` and `attnbench explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from attnbench.cli.arguments import Json, Plugins, Strict, split
from attnbench.cli.completion import last_of
from attnbench.errors import unknown
from attnbench.untrusted import listing, mapping, printable

WHAT = ("variants", "suites", "plugins", "devices", "runs")


def list_(
    what: Annotated[
        str, typer.Argument(autocompletion=last_of(lambda: WHAT), help="variants, suites, plugins, devices or runs")
    ],
    plugin: Plugins = None,
    results: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("results"),
    json_: Json = False,
    strict_plugins: Strict = False,
) -> None:
    """List what there is; a plugin that did not load is listed with its reason."""
    if what not in WHAT:
        raise unknown("list", what, WHAT)
    if what == "devices":
        rows = devices_here()
    elif what == "runs":
        rows = _runs(results)
    else:
        from attnbench.plan.catalog import read_catalog

        catalog = read_catalog(split(plugin), strict=strict_plugins)
        rows = {"variants": _variants, "suites": _suites, "plugins": _plugins}[what](catalog)
    if json_:
        print(json.dumps(rows, indent=1))
        return
    print_rows(rows)
    if what == "plugins":
        for entry in catalog.plugins:
            if entry.reason:
                print(f"next, for {entry.source.name}: {entry.remedy}")


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table, their keys its heads."""
    from rich.console import Console
    from rich.text import Text

    from attnbench.cli.run_output import table

    if not rows:
        print("none")
        return
    made = table(*rows[0])
    for row in rows:
        made.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=400)
    console.print(made)


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return printable(text)


def _variants(catalog: Any) -> list[dict[str, Any]]:
    return [
        {
            "variant": variant.name,
            "plugin": variant.plugin,
            "layout": variant.layout,
            "tier": variant.tier,
            "exact": "yes" if variant.exact else "no",
            "summary": variant.summary,
        }
        for variant in catalog.variants.values()
    ]


def _suites(catalog: Any) -> list[dict[str, Any]]:
    from attnbench.workloads.suite import built_in_suites

    suites = [*built_in_suites().values(), *(suite for plugin in catalog.plugins for suite in plugin.suites)]
    return [
        {"suite": suite.name, "workloads": len(suite.workloads), "description": suite.description} for suite in suites
    ]


def _plugins(catalog: Any) -> list[dict[str, Any]]:
    return [
        {
            "plugin": plugin.source.name,
            "status": "not loaded" if plugin.reason else "loaded",
            "from": plugin.source.origin or plugin.source.target,
            "variants": [variant.name for variant in plugin.variants],
            "reason": plugin.reason,
        }
        for plugin in catalog.plugins
    ]


def devices_here() -> list[dict[str, Any]]:
    """Give the devices of this machine as rows."""
    from attnbench.plan.devices import list_devices

    return [
        {
            "device": device.name,
            "model": device.model,
            "memory_gib": round(device.memory_bytes / 2**30, 1) if device.memory_bytes else None,
            "driver": device.driver,
        }
        for device in list_devices()
    ]


def _runs(results: Path) -> list[dict[str, Any]]:
    from attnbench import store
    from attnbench.errors import UsageError

    rows = []
    for run in store.list_runs(results):
        row: dict[str, Any] = {"run": printable(run.name), "started": None, "cells": None}
        try:
            manifest = store.read_manifest(run)
        except UsageError as error:
            rows.append({**row, "records": str(error)})
            continue
        counts = sorted(mapping(mapping(manifest.get("summary")).get("statuses")).items())
        row |= {"started": str(manifest.get("started_at", "")), "cells": len(listing(manifest.get("plan")))}
        rows.append({**row, "records": ", ".join(f"{count} {status}" for status, count in counts) or "unfinished"})
    return rows


def explain(
    cell: Annotated[str, typer.Argument(help="A cell's id, or its beginning.")],
    results: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("results"),
) -> None:
    """Say what a cell is, what became of it, whether it is stale and why, and how to run it again."""
    import shlex

    from attnbench import store
    from attnbench.errors import UsageError
    from attnbench.plan.rerun import rerun_command
    from attnbench.plan.stale import stale_reasons

    found = [
        (run, record)
        for run in store.list_runs(results)
        for record in store.read_run(run).records
        if record.cell_id.startswith(cell) and not record.control
    ]
    if not found:
        raise UsageError(f"no cell {cell!r} under {str(results)!r}: `attnbench list runs` names the runs")
    for run, record in found:
        print(f"{record.cell_id}  {record.variant}  {record.workload.id}  {record.device} ({record.device_name})")
        manifest = store.read_manifest(run)
        changes = stale_reasons(record, manifest)
        print(f"  {run.name}: {record.status}{': ' + record.reason if record.reason else ''}")
        print(f"  now:   {'stale: ' + '; '.join(changes) if changes else 'it still stands'}")
        if record.log:
            print(f"  log:   {run / record.log}")
        print(f"  again: {shlex.join(rerun_command(record.variant, record.workload, record.device, manifest))}")
