"""The `attnbench study` command."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import OneDevice, Plugins, Variants, split
from attnbench.cli.completion import last_of

if TYPE_CHECKING:
    from attnbench.plan.cells import Plan
    from attnbench.runner.run_listener import RunListener


def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=last_of(completion.studies),
            help="Name of the study, or 'list' to show all studies.",
        ),
    ],
    variant: Variants = None,
    device: OneDevice = None,
    plugin: Plugins = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder in which the study's folder is created.")] = Path(
        "results"
    ),
    budget: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds of sampling per cell.")] = None,
) -> None:
    """Test whether a common claim about attention is true.

    The result is a figure and a paragraph with the measured numbers.
    """
    from attnbench.cli.output import watched
    from attnbench.plan.history import History
    from attnbench.plan.unsupported import unsupported_reasons
    from attnbench.study import MODULES, Settings, find_study, make

    if name == "list":
        for known in sorted(MODULES):
            typer.echo(f"{known:<16}{find_study(known).question}")
        return

    def watch(plan: Plan) -> AbstractContextManager[RunListener]:
        unsupported = unsupported_reasons(plan)
        return watched(plan, unsupported, History(results).estimate(plan, unsupported))

    outcome = make(find_study(name), Settings(results, device, split(variant), split(plugin), budget, watch=watch))
    typer.echo(outcome.finding)
    typer.echo(f"\n{outcome.folder}: figure.svg, figure.png, finding.md, rows.json")
