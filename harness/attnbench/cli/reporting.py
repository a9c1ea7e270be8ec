"""`attnbench report`, `compare`, `best`, `export`: what runs say."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import Baseline, Json, fraction
from attnbench.cli.completion import last_of
from attnbench.errors import UsageError
from attnbench.untrusted import printable

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        autocompletion=last_of(completion.runs),
        help="Runs, by folder or name; none: the latest.",
    ),
]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Folder of runs.")]


def report(
    runs: Runs = None,
    baseline: Baseline = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; default: RUN/report.")] = None,
    results: Results = Path("results"),
) -> None:
    """Write a run's report: index.html, report.md, results.csv and figures; print the headline table.

    Several runs make one report that compares their machines; `attnbench compare` says what changed from one run to
    the next.
    """
    from attnbench.report.content import read
    from attnbench.report.write import write_document

    folders = _folders(runs, results)
    target = out or folders[-1] / "report"
    if out is None and target.is_symlink():
        raise UsageError(f"{str(target)!r} is a link: remove it, or choose another --out")
    document = read(folders, baseline)
    paths = write_document(document, target)
    for table in document.headline:
        print_table(table)
    print(f"report: {paths[0]}")


def compare(
    old: Annotated[str, typer.Argument(autocompletion=last_of(completion.runs), help="The run to compare with.")],
    new: Annotated[
        list[str],
        typer.Argument(
            autocompletion=last_of(completion.runs),
            help="The run that is judged; of several, each against the one before.",
        ),
    ],
    fail_if_slower: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Exit 1 if a cell is surely slower by more.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="table or markdown")] = "table",
    json_: Json = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page of it, too.")] = None,
    results: Results = Path("results"),
) -> None:
    """Compare two runs cell by cell, with verdicts; newly failing cells come first.

    With --fail-if-slower 3% the exit code is 1 only where a whole interval lies beyond the bar and beyond three times
    the noise floor of both runs' A/A controls.
    """
    from attnbench.errors import UsageError, unknown
    from attnbench.report.compare import compared, write_page
    from attnbench.store import find_run

    if format_ not in ("table", "markdown"):
        raise unknown("format", format_, ("table", "markdown"))
    if json_ and len(new) > 1:
        raise UsageError(f"--json compares two runs, got {1 + len(new)}")
    bar = fraction("--fail-if-slower", fail_if_slower)
    found = compared([find_run(results, run) for run in (old, *new)], bar)
    _print_comparisons(found, format_, json_=json_)
    if html is not None:
        print(f"page: {write_page(found, html)}", file=sys.stderr if json_ or format_ == "markdown" else sys.stdout)
    raise typer.Exit(1 if bar is not None and any(one.regressions for _, _, one in found) else 0)


def _print_comparisons(found: Any, format_: str, *, json_: bool) -> None:
    from attnbench.report.compare import comparison_json, comparison_markdown, comparison_table

    for old, new, comparison in found:
        if json_:
            print(json.dumps(comparison_json(comparison), indent=1))
        elif format_ == "markdown":
            print(comparison_markdown(comparison))
        else:
            title = "" if len(found) == 1 else f"{old} to {new}"
            print_table(dataclasses.replace(comparison_table(comparison), title=title))


def best(
    runs: Runs = None,
    json_: Json = False,
    format_: Annotated[str, typer.Option("--format", help="table or json")] = "table",
    results: Results = Path("results"),
) -> None:
    """Say which correct variant is fastest, shape by shape; as JSON it is a dispatch table."""
    from attnbench.analysis.dispatch_table import regions, to_json
    from attnbench.analysis.results import Results
    from attnbench.errors import unknown
    from attnbench.report.derived_tables import regions_table

    if format_ not in ("table", "json"):
        raise unknown("format", format_, ("table", "json"))
    table = regions(Results.load(_folders(runs, results)))
    if json_ or format_ == "json":
        print(json.dumps(to_json(table), indent=1))
    else:
        print_table(regions_table(table))


def export(
    runs: Runs = None,
    format_: Annotated[str, typer.Option("--format", help="csv, parquet, markdown, latex or pytest-benchmark")] = "csv",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to.")] = None,
    results: Results = Path("results"),
) -> None:
    """Write the records of runs in another format."""
    from attnbench.analysis import load
    from attnbench.report import export as written

    if output is None:
        raise UsageError("no output file: give one with -o FILE")
    print(written(load(_folders(runs, results)), output, format_))


def _folders(runs: list[str] | None, results: Path) -> list[Path]:
    from attnbench.store import find_run

    return [find_run(results, run) for run in runs] if runs else [find_run(results)]


def print_table(table: Any) -> None:
    """Print a report's table as wide as the terminal, the best of each row bold."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(printable(table.title)) if table.title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(table.columns):
        made.add_column(Text(printable(column)), justify="left" if index < table.labels else "right", overflow="fold")
    for row in table.rows:
        styles = ["bold" if cell.best else "italic" if cell.tied else "" for cell in row]
        made.add_row(*(Text(printable(cell.text), style=style) for cell, style in zip(row, styles, strict=True)))
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)
    console.print(made)
    for note in table.notes:
        console.print(Text(printable(note), style="dim"))
