"""The `attnbench report` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import Baseline, ResultsFolder, Runs, run_folders
from attnbench.errors import UsageError


def report(
    runs: Runs = None,
    baseline: Baseline = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write to; default: RUN/report.")] = None,
    results: ResultsFolder = Path("results"),
) -> None:
    """Write the report of a run, and print its headline table.

    The report consists of index.html, report.md, results.csv and figures. If several runs are given, one report
    compares the machines of all runs. To see what changed between two runs, use `attnbench compare`.
    """
    from attnbench.cli.output import print_table, print_warnings
    from attnbench.report.content import read
    from attnbench.report.write import write_content

    folders = run_folders(runs, results)
    target = out or folders[-1] / "report"
    if out is None and target.is_symlink():
        raise UsageError(f"{str(target)!r} is a symbolic link: remove it, or choose another folder with --out")
    content = read(folders, baseline)
    paths = write_content(content, target)
    for table in content.headline:
        print_table(table)
    print_warnings(content.warnings)
    print(f"report: {paths[0]}")
