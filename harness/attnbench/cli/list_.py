"""The `attnbench list` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.cli.arguments import Json, Plugins, ResultsFolder, Strict, split
from attnbench.cli.completion import last_of
from attnbench.errors import UsageError, unknown
from attnbench.untrusted import listing, mapping, printable

if TYPE_CHECKING:
    from attnbench.plan.catalog import Catalog

KINDS = ("variants", "suites", "plugins", "devices", "runs")


def list_(
    what: Annotated[
        str,
        typer.Argument(
            autocompletion=last_of(lambda: KINDS), help="What to list: variants, suites, plugins, devices or runs."
        ),
    ],
    plugin: Plugins = None,
    results: ResultsFolder = Path("results"),
    json_: Json = False,
    strict_plugins: Strict = False,
) -> None:
    """List variants, suites, plugins, devices or runs.

    A plugin that can't be loaded is listed with the reason.
    """
    from attnbench.cli.devices import local_devices
    from attnbench.cli.output import print_rows

    if what not in KINDS:
        raise unknown("list", what, KINDS)
    if what == "devices":
        rows = local_devices()
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


def _variants(catalog: Catalog) -> list[dict[str, Any]]:
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


def _suites(catalog: Catalog) -> list[dict[str, Any]]:
    from attnbench.workloads.suite import built_in_suites

    suites = [*built_in_suites().values(), *(suite for plugin in catalog.plugins for suite in plugin.suites)]
    return [
        {"suite": suite.name, "workloads": len(suite.workloads), "description": suite.description} for suite in suites
    ]


def _plugins(catalog: Catalog) -> list[dict[str, Any]]:
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


def _runs(results: Path) -> list[dict[str, Any]]:
    from attnbench import store

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
