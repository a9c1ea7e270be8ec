"""The `attnbench new` command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="Name of the variant, e.g. my-attn.")],
    package: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write an installable package into this new folder.")
    ] = None,
) -> None:
    """Write a new plugin that passes `attnbench check`.

    The commands to run next are printed. Without --package, the plugin is a single file. In a clone of attnbench, the
    file is written to the folder of the built-in variants. Elsewhere, it is written to the current folder.
    """
    from attnbench.plugins import scaffold

    if package is not None:
        paths = scaffold.new_package(name, package)
        next_steps = [f"pip install -e {shlex.quote(str(package))}", f"attnbench check {name}"]
    else:
        path = scaffold.new_file(name, Path())
        paths = [path]
        plugin = "" if scaffold.BUILT_INS in path.parents else f" --plugin {shlex.quote(str(path))}"
        next_steps = [f"attnbench check {name}{plugin}", f"attnbench run -v {name},sdpa{plugin}"]
    typer.echo("wrote")
    for path in paths:
        typer.echo(f"  {path}")
    typer.echo("next")
    for step in next_steps:
        typer.echo(f"  {step}")
