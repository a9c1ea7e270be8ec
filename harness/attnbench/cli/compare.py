"""The `attnbench compare` command."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import Json, ResultsFolder, fraction
from attnbench.cli.completion import last_of
from attnbench.errors import UsageError, unknown


def compare(
    old: Annotated[str, typer.Argument(autocompletion=last_of(completion.runs), help="The run to compare with.")],
    new: Annotated[
        list[str],
        typer.Argument(
            autocompletion=last_of(completion.runs),
            help="The run to judge; if several are given, each is compared with the previous one.",
        ),
    ],
    fail_if_slower: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Exit with 1 if a cell is certainly slower by more than this.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="Output format: table or markdown.")] = "table",
    json_: Json = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the comparison to an HTML page.")
    ] = None,
    results: ResultsFolder = Path("results"),
) -> None:
    """Compare two runs cell by cell, with verdicts.

    Cells that fail only in the new run come first. With --fail-if-slower 3%, the exit code is 1 if there are such
    cells, or if the whole interval of a cell's slow-down is above 3% and above three times each run's noise floor.
    """
    from attnbench.report.comparison import compared, write_page
    from attnbench.store import find_run

    if format_ not in ("table", "markdown"):
        raise unknown("format", format_, ("table", "markdown"))
    if json_ and len(new) > 1:
        raise UsageError(f"--json can compare only two runs, not {1 + len(new)}")
    threshold = fraction("--fail-if-slower", fail_if_slower)
    found = compared([find_run(results, run) for run in (old, *new)], threshold)
    _print_comparisons(found, format_, json_=json_)
    if html is not None:
        print(f"page: {write_page(found, html)}", file=sys.stderr if json_ or format_ == "markdown" else sys.stdout)
    raise typer.Exit(1 if threshold is not None and any(comparison.regressions for _, _, comparison in found) else 0)


def _print_comparisons(found: Any, format_: str, *, json_: bool) -> None:
    from attnbench.cli.output import print_table
    from attnbench.report.comparison import comparison_json, comparison_markdown, comparison_table

    for old, new, comparison in found:
        if json_:
            print(json.dumps(comparison_json(comparison), indent=1))
        elif format_ == "markdown":
            print(comparison_markdown(comparison))
        else:
            title = "" if len(found) == 1 else f"{old} to {new}"
            print_table(dataclasses.replace(comparison_table(comparison), title=title))
