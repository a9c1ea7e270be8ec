"""The `attnbench verify` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import Plugins, ResultsFolder, split
from attnbench.cli.completion import last_of


def verify(
    run: Annotated[
        str, typer.Argument(metavar="RUN", autocompletion=last_of(completion.runs), help="The run to verify.")
    ],
    sample: Annotated[int, typer.Option(metavar="K", help="Number of cells to run again.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed for choosing the cells.")] = 0,
    plugin: Plugins = None,
    results: ResultsFolder = Path("results"),
) -> None:
    """Run some cells of a run again, and compare the results.

    The cells are chosen at random. The exit code is 1 if a result differs.
    """
    from attnbench.analysis.compare import agreement
    from attnbench.analysis.compare import sample as draw_sample
    from attnbench.analysis.results import Results
    from attnbench.cli.output import print_warnings
    from attnbench.runner.resume import start_again
    from attnbench.runner.run import execute
    from attnbench.store import find_run

    folder = find_run(results, run)
    before = Results.load(folder)
    cells = draw_sample(before, sample, seed)
    repeated, catalog, plan = start_again(
        folder, [(cell.variant, cell.workload, cell.device) for cell in cells], results, split(plugin)
    )
    execute(repeated, catalog, plan)
    again = Results.load(repeated)
    found = agreement(before, again)
    print_warnings(again.warnings)
    for change in found.disagreeing:
        ratio = f" {change.ratio:.2f}x" if change.ratio else ""
        print(f"differs: {change.variant} {change.workload_id}: {change.old_status} -> {change.new_status}{ratio}")
    print(f"{found}\nrecords: {repeated}")
    raise typer.Exit(0 if found.agrees else 1)
