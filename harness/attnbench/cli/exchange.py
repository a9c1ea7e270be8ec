"""`attnbench import`, `publish` and `verify`: runs from elsewhere, for others, and once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import Plugins, split
from attnbench.cli.completion import last_of
from attnbench.cli.reporting import Results
from attnbench.errors import UsageError, unknown


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="pytest-benchmark's JSON.")],
    format_: Annotated[str, typer.Option("--format", help="pytest-benchmark")] = "pytest-benchmark",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The run's name; default: the file's.")] = None,
    results: Results = Path("results"),
) -> None:
    """Make a run of another tool's results; they were not checked here, so they are shown and never ranked."""
    from attnbench.report.importing import import_pytest_benchmark

    if format_ != "pytest-benchmark":
        raise unknown("format", format_, ("pytest-benchmark",))
    done = import_pytest_benchmark(file, results, name or file.stem)
    for reason in done.skipped:
        typer.echo(f"left out: {reason}", err=True)
    print(f"{done.benchmarks} benchmarks: {done.run}")


def publish(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the site goes.")],
    results: Results = Path("results/published"),
) -> None:
    """Write a static site of all runs under --results: by machine, GPU and date, with each cell's trend."""
    from attnbench.report.site import write_site
    from attnbench.store import MANIFEST

    runs = sorted(path.parent for path in results.rglob(MANIFEST))
    if not runs:
        raise UsageError(f"no run under {str(results)!r}: name the folder of the runs with --results")
    print(f"site: {write_site(runs, directory)}")


def verify(
    run: Annotated[
        str, typer.Argument(metavar="RUN", autocompletion=last_of(completion.runs), help="The run to check.")
    ],
    sample: Annotated[int, typer.Option(metavar="K", help="How many of its cells to run again.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the draw.")] = 0,
    plugin: Plugins = None,
    results: Results = Path("results"),
) -> None:
    """Run K random cells of a run again and say whether they agree; exit 1 if one does not."""
    from attnbench.analysis.results import Results
    from attnbench.analysis.verification import agreement
    from attnbench.analysis.verification import sample as drawn
    from attnbench.runner.resume import start_again
    from attnbench.runner.run import execute
    from attnbench.store import find_run

    folder = find_run(results, run)
    before = Results.load(folder)
    cells = drawn(before, sample, seed)
    repeated, catalog, plan = start_again(
        folder, [(cell.variant, cell.workload, cell.device) for cell in cells], results, split(plugin)
    )
    execute(repeated, catalog, plan)
    found = agreement(before, Results.load(repeated))
    for change in found.disagreeing:
        ratio = f" {change.ratio:.2f}x" if change.ratio else ""
        print(f"differs: {change.variant} {change.workload_id}: {change.old_status} -> {change.new_status}{ratio}")
    print(f"{found}\nrecords: {repeated}")
    raise typer.Exit(0 if found.agrees else 1)
