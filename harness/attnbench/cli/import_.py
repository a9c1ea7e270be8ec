"""The `attnbench import` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import ResultsFolder
from attnbench.errors import unknown

MAX_SHOWN = 20  # skipped benchmarks whose reasons are printed


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON file written by pytest-benchmark.")],
    format_: Annotated[
        str, typer.Option("--format", help="Format of the file: pytest-benchmark.")
    ] = "pytest-benchmark",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the run; default: the name of the file.")
    ] = None,
    results: ResultsFolder = Path("results"),
) -> None:
    """Import the results of another tool as a run.

    Imported results are shown but never ranked, because attnbench did not check the outputs of the timed code.
    """
    from attnbench.report.importing import import_pytest_benchmark

    if format_ != "pytest-benchmark":
        raise unknown("format", format_, ("pytest-benchmark",))
    done = import_pytest_benchmark(file, results, name or file.stem)
    for reason in done.skipped[:MAX_SHOWN]:
        typer.echo(f"skipped: {reason}", err=True)
    if len(done.skipped) > MAX_SHOWN:
        typer.echo(f"skipped: {len(done.skipped) - MAX_SHOWN} more", err=True)
    print(f"{done.benchmarks} benchmarks: {done.run}")
