"""`attnbench check`: the conformance suite."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import typer

from attnbench.cli.arguments import Json, Plugins, Strict, split
from attnbench.errors import UsageError

Names = Annotated[list[str] | None, typer.Argument(help="Variants, by name or glob.", metavar="[VARIANT]...")]
OneDevice = Annotated[str | None, typer.Option("-d", "--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...")]
SHOWN = ("passed", "failed", "skipped")


def check(
    variant: Names = None,
    plugin: Plugins = None,
    device: OneDevice = None,
    all_: Annotated[bool, typer.Option("--all", help="Check every variant.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="The most telling tests alone.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Drawn workloads and large ones too.")] = False,
    only: Annotated[str | None, typer.Option(metavar="CHECK,CHECK", help="These checks alone.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of all random values.")] = 0,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds that one test may last.")] = 300.0,
    explain: Annotated[str | None, typer.Option(metavar="CHECK", help="Say what a check demands and why.")] = None,
    json_: Json = False,
    strict_plugins: Strict = False,
) -> None:
    """Run the conformance suite that every variant must pass; exit 1 if a test fails.

    Examples: attnbench check chunked; attnbench check --plugin my_attention.py; attnbench check --explain needle
    """
    from attnbench.runner.catalog import read_catalog, refuse_broken
    from attnbench.runner.checking import check_variant, explain_check
    from attnbench.runner.devices import choose_devices
    from attnbench.runner.plan import choose_variants

    if explain is not None:
        print(explain_check(explain))
        return
    if quick and thorough:
        raise UsageError("--quick and --thorough contradict each other: give one")
    names, named_plugins = split(variant), split(plugin)
    catalog = read_catalog(named_plugins, strict=strict_plugins)
    refuse_broken(catalog, named_plugins)
    offered = [
        found for found in catalog.variants.values() if found.source.kind == "file" or found.plugin in named_plugins
    ]
    if not names and not all_ and not offered:
        raise UsageError("no variant named: give one (`attnbench list variants`), a --plugin, or --all")
    chosen = choose_variants(catalog, names) if names or all_ else offered
    level = "quick" if quick else "thorough" if thorough else "full"
    results: list[dict[str, Any]] = []
    for entry in chosen:
        tally = Tally(entry.name, quiet=json_)
        check_variant(
            entry,
            choose_devices([device] if device else [])[0],
            level=level,
            timeout_s=timeout,
            heard=_both(tally.add, results, entry.name),
            only=split([only]) if only else None,
            seed=seed,
            plugin=entry.source.target if entry.source.kind == "file" else None,
        )
        tally.close()
    if json_:
        print(json.dumps(results, indent=1))
    raise typer.Exit(1 if any(result["status"] == "failed" for result in results) else 0)


class Tally:
    """Prints what came of one variant: each failure with its remedy, hints, and the counts."""

    def __init__(self, variant: str, *, quiet: bool) -> None:
        self._variant, self._quiet = variant, quiet
        self._counts: Counter[str] = Counter()
        self._skips: Counter[str] = Counter()
        self._hints: dict[str, str] = {}
        self._seconds = 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Take in one test's result; a failure is told at once."""
        self._counts[result["status"]] += 1
        self._seconds += result.get("seconds") or 0.0
        reason = str(result.get("reason") or "")
        if result["status"] == "skipped":
            self._skips[reason.partition(": ")[2] or reason] += 1
        elif result["status"] == "hint":
            self._hints.setdefault(result["check"], reason)
        elif result["status"] == "failed" and not self._quiet:
            print(f"FAILED {self._variant}: {result['check']} on {result['workload_id']}")
            for title, text in (("", reason), ("remedy ", result.get("remedy")), ("again  ", result.get("repro"))):
                if text:
                    print(f"  {title}{text}")

    def close(self) -> None:
        """Print the hints and the counts."""
        if self._quiet:
            return
        for name, reason in self._hints.items():
            print(f"hint   {self._variant}: {name}: {reason}")
        if set(self._counts) == {"skipped"}:
            print(f"{self._variant}: nothing could be run: {self._skips.most_common(1)[0][0]}")
            return
        counts = ", ".join(f"{self._counts[status]} {status}" for status in SHOWN if self._counts[status])
        print(f"{self._variant}: {counts} in {self._seconds:.1f} s")


def _both(
    add: Callable[[dict[str, Any]], None], results: list[dict[str, Any]], variant: str
) -> Callable[[dict[str, Any]], None]:
    def take(result: dict[str, Any]) -> None:
        results.append({"variant": variant, **result})
        add(result)

    return take
