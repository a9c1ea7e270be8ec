"""Write reference pages from the code: the command line and the checks of the conformance suite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from attnbench.cli.app import app
from attnbench.cli.examples import EXAMPLES

if TYPE_CHECKING:
    from attnbench.conformance.check import Check


def command_line() -> str:
    """Return the command-line reference in Markdown: every command with its arguments, options and examples."""
    group: Any = typer.main.get_command(app)
    parts = [f"`attnbench` {_plain(group.help)}\n", _table(group.params)]
    for name, command in group.commands.items():
        summary, _, rest = (command.help or "").partition("\n\n")
        parts += [f"## attnbench {name}\n", f"{_plain(summary)}\n", f"{rest.strip()}\n" if rest else ""]
        parts += ["```text\n" + _usage(name, command) + "\n```\n", _table(command.params)]
        parts += ["Examples:\n\n```text\n" + "\n".join(EXAMPLES[name]) + "\n```\n"]
    return "\n".join(part for part in parts if part)


def checks(table: Iterable[Check]) -> str:
    """Return a Markdown table of conformance checks, with what each check demands and the bug that it usually finds."""
    rows = (f"| `{check.name}` | {check.demands} | {check.usual_bug} |" for check in table)
    return "\n".join(("| check | demands | usual bug |", "|---|---|---|", *rows)) + "\n"


def _usage(name: str, command: Any) -> str:
    arguments = [
        parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]"
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    return " ".join(["attnbench", name, *arguments, "[OPTIONS]"])


def _table(parameters: list[Any]) -> str:
    lines = ["| option | meaning |", "|---|---|"]
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            syntax = parameter.name.upper()
        else:
            value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
            syntax = ", ".join(f"{option}{value}" for option in parameter.opts)
        lines.append(f"| `{syntax}` | {_plain(parameter.help).replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())
