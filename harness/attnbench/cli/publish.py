"""The `attnbench publish` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli.arguments import ResultsFolder
from attnbench.errors import UsageError


def publish(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write the site to.")],
    results: ResultsFolder = Path("results/published"),
) -> None:
    """Write a static site with the reports of all runs under --results.

    Runs are grouped by machine, GPU and date, and a trend is shown for each cell.
    """
    from attnbench.report.site import write_site
    from attnbench.store import MANIFEST

    runs = sorted(path.parent for path in results.rglob(MANIFEST))
    if not runs:
        raise UsageError(f"no run under {str(results)!r}: give the folder that contains the runs with --results")
    print(f"site: {write_site(runs, directory)}")
