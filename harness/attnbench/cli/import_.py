"""`attnbench import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import ResultsFolder
from attnbench.errors import unknown


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON file of pytest-benchmark.")],
    format_: Annotated[str, typer.Option("--format", help="pytest-benchmark")] = "pytest-benchmark",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run; default: the file's name.")] = None,
    results: ResultsFolder = Path("results"),
) -> None:
    """Make a run of another tool's results; they were not checked here, so they are shown but never ranked."""
    from attnbench.report.importing import import_pytest_benchmark

    if format_ != "pytest-benchmark":
        raise unknown("format", format_, ("pytest-benchmark",))
    done = import_pytest_benchmark(file, results, name or file.stem)
    for reason in done.skipped:
        typer.echo(f"left out: {reason}", err=True)
    print(f"{done.benchmarks} benchmarks: {done.run}")
