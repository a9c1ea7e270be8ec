"""`attnbench study`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import Plugins, Variants, split
from attnbench.cli.completion import last_of

if TYPE_CHECKING:
    from attnbench.progress import Progress
    from attnbench.runner.plan import Plan


def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", autocompletion=last_of(completion.studies), help="Which study; 'list' names them all."
        ),
    ],
    variant: Variants = None,
    device: Annotated[
        str | None, typer.Option("-d", "--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...")
    ] = None,
    plugin: Plugins = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder that the study's folder is made in.")] = Path(
        "results"
    ),
    budget: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds of sampling a cell.")] = None,
) -> None:
    """Measure what is said of attention: a figure, and one paragraph from its numbers alone."""
    from attnbench.study import MODULES, Settings, find_study, make

    if name == "list":
        for known in sorted(MODULES):
            typer.echo(f"{known:<16}{find_study(known).question}")
        return
    outcome = make(
        find_study(name), Settings(results, device, split(variant), split(plugin), budget, watch=_watched(results))
    )
    typer.echo(outcome.finding)
    typer.echo(f"\n{outcome.folder}: figure.svg, figure.png, finding.md, rows.json")


def _watched(results: Path) -> Callable[[Plan], AbstractContextManager[Progress]]:
    """Show how a study's run goes, as `attnbench run` does."""

    @contextmanager
    def watched(plan: Plan) -> Iterator[Progress]:
        from attnbench.progress import progress
        from attnbench.runner.past import Past
        from attnbench.runner.survey import reasons

        unsupported = reasons(plan)
        with progress(plan) as shown:
            shown.announce(unsupported, Past(results).seconds_of(plan, unsupported))
            yield shown

    return watched
