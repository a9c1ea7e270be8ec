"""`attnbench publish`."""

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
    """Write a static site of all runs under --results: by machine, GPU and date, with each cell's trend."""
    from attnbench.report.site import write_site
    from attnbench.store import MANIFEST

    runs = sorted(path.parent for path in results.rglob(MANIFEST))
    if not runs:
        raise UsageError(f"no run under {str(results)!r}: name the folder of the runs with --results")
    print(f"site: {write_site(runs, directory)}")
