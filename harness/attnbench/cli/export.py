"""The `attnbench export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import ResultsFolder, Runs, run_folders
from attnbench.errors import UsageError


def export(
    runs: Runs = None,
    format_: Annotated[
        str, typer.Option("--format", help="csv, parquet, markdown, latex or pytest-benchmark.")
    ] = "csv",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write.")] = None,
    results: ResultsFolder = Path("results"),
) -> None:
    """Write the records of runs in another format."""
    from attnbench.analysis import load
    from attnbench.report import export as write_export

    if output is None:
        raise UsageError("no output file given: add -o FILE")
    print(write_export(load(run_folders(runs, results)), output, format_))
