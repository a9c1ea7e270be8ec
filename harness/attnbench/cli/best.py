"""The `attnbench best` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import Json, ResultsFolder, Runs, run_folders
from attnbench.errors import unknown


def best(
    runs: Runs = None,
    json_: Json = False,
    format_: Annotated[str, typer.Option("--format", help="Output format: table or json.")] = "table",
    results: ResultsFolder = Path("results"),
) -> None:
    """Show which correct variant is fastest for each shape.

    With --json, print a dispatch table that programs can read.
    """
    from attnbench.analysis.dispatch_table import regions, to_json
    from attnbench.analysis.results import Results
    from attnbench.cli.output import print_table
    from attnbench.report.derived_tables import regions_table

    if format_ not in ("table", "json"):
        raise unknown("format", format_, ("table", "json"))
    found = Results.load(run_folders(runs, results))
    fastest = regions(found)
    if json_ or format_ == "json":
        print(json.dumps(to_json(fastest, found.warnings), indent=1))
    else:
        print_table(regions_table(fastest, found.warnings))
