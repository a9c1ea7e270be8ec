"""The `attnbench check` command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.cli import completion
from attnbench.cli.arguments import Json, OneDevice, Plugins, Strict, split
from attnbench.cli.completion import last_of
from attnbench.errors import UsageError

if TYPE_CHECKING:
    from attnbench.cli.check_output import CheckOutput, Tally
    from attnbench.plan.catalog import Catalog, VariantEntry

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[VARIANT]...", autocompletion=last_of(completion.variants), help="Variants: names or glob patterns."
    ),
]


def check(
    variant: Names = None,
    plugin: Plugins = None,
    device: OneDevice = None,
    all_: Annotated[bool, typer.Option("--all", help="Check every variant.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Run only the tests that find the most bugs.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Also test random and large workloads.")] = False,
    only: Annotated[str | None, typer.Option(metavar="CHECK,CHECK", help="Run only these checks.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed for all random values.")] = 0,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Time limit for each test.")] = 300.0,
    explain: Annotated[str | None, typer.Option(metavar="CHECK", help="Show what a check requires and why.")] = None,
    json_: Json = False,
    strict_plugins: Strict = False,
) -> None:
    """Run the conformance suite that every variant must pass.

    The exit code is 1 if a test fails.
    """
    from rich.console import Console

    from attnbench.cli.check_output import JsonOutput, LineOutput, TableOutput, Tally
    from attnbench.plan.catalog import read_catalog, refuse_broken
    from attnbench.plan.devices import choose_devices
    from attnbench.runner.check_variant import check_variant, explain_check

    if explain is not None:
        print(explain_check(explain))
        return
    if quick and thorough:
        raise UsageError("--quick and --thorough can't be combined: give only one of them")
    chosen_device = choose_devices([device] if device else [])[0]
    named_plugins = split(plugin)
    catalog = read_catalog(named_plugins, strict=strict_plugins)
    refuse_broken(catalog, named_plugins)
    chosen = _chosen_variants(catalog, split(variant), named_plugins, every=all_)
    level = "quick" if quick else "thorough" if thorough else "full"
    options: dict[str, Any] = {
        "level": level,
        "timeout_s": timeout,
        "only": split([only]) if only else None,
        "seed": seed,
    }
    console = Console()
    output: CheckOutput = JsonOutput() if json_ else TableOutput(console) if console.is_terminal else LineOutput()
    tallies = []
    for entry in chosen:
        tallies.append(tally := Tally(entry.name, entry.tier))
        output.variant_started(tally)
        plugin_file = entry.source.target if entry.source.kind == "file" else None
        check_variant(entry, chosen_device, on_result=_collector(tally, output), plugin=plugin_file, **options)
        output.variant_finished(tally)
    output.finished(tallies)
    raise typer.Exit(1 if any(tally.counts["failed"] for tally in tallies) else 0)


def _chosen_variants(catalog: Catalog, names: list[str], plugins: list[str], *, every: bool) -> list[VariantEntry]:
    """Return the variants to check: those in `names`, all variants if `every` is true, or otherwise those of `plugins`.

    Raises UsageError if there are none.
    """
    from attnbench.plan.cells import choose_variants

    if names or every:
        return choose_variants(catalog, names)
    offered = [found for found in catalog.variants.values() if found.source.kind == "file" or found.plugin in plugins]
    if not offered:
        raise UsageError(
            "no variant given: name one (`attnbench list variants` shows them), or give a --plugin or --all"
        )
    return offered


def _collector(tally: Tally, output: CheckOutput) -> Callable[[dict[str, Any]], None]:
    """Return a function that adds a test's result to the tally and passes it to the output."""

    def take(result: dict[str, Any]) -> None:
        tally.results.append(result)
        output.test_finished(tally, result)

    return take
