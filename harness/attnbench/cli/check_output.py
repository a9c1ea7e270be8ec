"""Output of `attnbench check`: tables on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attnbench.cli.output import new_table
from attnbench.plan.variant_traits import holds
from attnbench.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

STATUSES = ("passed", "failed", "skipped")
REFUSALS = "refusals"  # the check that runs the workloads that a variant does not support
COLOURS = {"passed": "green", "failed": "bold red", "skipped": "bright_black"}
MOST_SHOWN, MOST_SHOWN_OF_CHECK = 6, 3  # failures on a terminal; plain lines and JSON have all of them
FEWEST_ALIKE = 3  # failures with the same likely bug, below which they are not summed up
NUMBER = re.compile(r"\d[\d.e+-]*")  # the same bug may be off by another factor on another workload

Result = dict[str, Any]  # a CheckResult as JSON values


class Tally:
    """The test results of one variant."""

    def __init__(self, variant: str, tier: str) -> None:
        self.variant, self.tier = variant, tier
        self.results: list[Result] = []

    @property
    def counts(self) -> Counter[str]:
        """Number of tests by status."""
        return Counter(result["status"] for result in self.results)

    @property
    def seconds(self) -> float:
        """Seconds that the tests took."""
        return float(sum(result.get("seconds") or 0.0 for result in self.results))

    @property
    def nothing_ran(self) -> str | None:
        """The most common reason for skipping, if every test but a passed `refusals` was skipped; else None."""
        skipped = [result for result in self.results if result["status"] == "skipped"]
        ran = {(result["check"], result["status"]) for result in self.results if result["status"] != "skipped"}
        if not skipped or ran - {(REFUSALS, "passed")}:
            return None
        reasons = Counter(str(result.get("refusal") or result.get("reason") or "") for result in skipped)
        return reasons.most_common(1)[0][0]

    @property
    def checks(self) -> dict[str, list[Result]]:
        """Results by check, in order of arrival."""
        return by_check(self.results)

    @property
    def failures(self) -> list[Result]:
        """The tests that failed."""
        return [result for result in self.results if result["status"] == "failed"]

    @property
    def traits(self) -> dict[str, str]:
        """Whether each trait holds: yes, no, `no, though claimed`, or not run."""
        traits = {name: results for name, results in self.checks.items() if results[0].get("trait")}
        return {name: holds({result["status"] for result in results}) for name, results in traits.items()}

    @property
    def hints(self) -> dict[str, str]:
        """The first hint of each check that is not a trait."""
        hints = (result for result in self.results if result["status"] == "hint" and not result.get("trait"))
        return {result["check"]: str(result["reason"]) for result in reversed(list(hints))}


class CheckOutput:
    """Receives the events of a check and prints nothing; subclasses print."""

    def variant_started(self, tally: Tally) -> None:
        """Handle the start of a variant's tests."""

    def test_finished(self, tally: Tally, result: Result) -> None:
        """Handle the result of one test."""

    def variant_finished(self, tally: Tally) -> None:
        """Handle the end of a variant's tests."""

    def finished(self, tallies: Sequence[Tally]) -> None:
        """Handle the end of all tests."""


class JsonOutput(CheckOutput):
    """Prints all results as one JSON list."""

    def finished(self, tallies: Sequence[Tally]) -> None:
        """Print the list."""
        results = [{"variant": tally.variant, **result} for tally in tallies for result in tally.results]
        print(json.dumps(results, indent=1))


class LineOutput(CheckOutput):
    """Prints plain lines: each failure at once, the counts at the end."""

    def test_finished(self, tally: Tally, result: Result) -> None:
        """Print a failure."""
        if result["status"] == "failed":
            print(f"FAILED {tally.variant}: {result['check']} on {result['workload_id']}")
            for title, text in _lines(result):
                print(f"  {title}{text}")
            sys.stdout.flush()

    def variant_finished(self, tally: Tally) -> None:
        """Print hints, traits and counts."""
        for name, reason in tally.hints.items():
            print(f"hint   {tally.variant}: {name}: {reason}")
        if tally.nothing_ran:
            print(f"{tally.variant}: nothing could be run: {tally.nothing_ran}", flush=True)
            return
        if bug := shared_bug(tally.failures):
            print(f"{tally.variant}: {printable(bug)}")
        if tally.traits:
            print(f"traits {tally.variant}: {', '.join(f'{name} {holds}' for name, holds in tally.traits.items())}")
        counts = ", ".join(f"{tally.counts[status]} {status}" for status in STATUSES if tally.counts[status])
        print(f"{tally.variant} ({tally.tier}): {counts} in {tally.seconds:.1f} s", flush=True)


class TableOutput(CheckOutput):
    """Prints a table of checks with the failures below for each variant, and one table of all variants."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def variant_started(self, tally: Tally) -> None:
        """Show a spinner with the variant's name."""
        self._status = self._console.status(tally.variant)
        self._status.start()

    def test_finished(self, tally: Tally, result: Result) -> None:
        """Show which check runs, and how many tests passed and failed."""
        counts = tally.counts
        if self._status is not None:
            self._status.update(
                Text(f"{tally.variant}  {result['check']}  {counts['passed']} passed, {counts['failed']} failed")
            )

    def variant_finished(self, tally: Tally) -> None:
        """Print the table of checks, the traits, and failures with their remedies."""
        if self._status is not None:
            self._status.stop()
        if tally.nothing_ran:
            self._console.print(Text(f"{tally.variant}: nothing could be run: {tally.nothing_ran}"))
            return
        title = Text(f"{tally.variant}", style="bold").append(f" (tier {tally.tier})", style="not bold")
        self._console.print(title)
        self._print_checks(tally)
        self._print_traits(tally)
        self._print_failures(tally.failures)
        for name, reason in tally.hints.items():
            self._console.print(Text(f"hint  {name}: {reason}", style="yellow"), soft_wrap=True)

    def finished(self, tallies: Sequence[Tally]) -> None:
        """Print one row for each variant, if there are several."""
        if len(tallies) < 2:
            return
        traits = list(dict.fromkeys(name for tally in tallies for name in tally.traits))
        rows = new_table("variant", "tier", *STATUSES, *traits, "seconds", "")
        for tally in tallies:
            cells = [Text(str(tally.counts[status] or ""), style=COLOURS[status]) for status in STATUSES]
            found = [tally.traits.get(name, "") for name in traits]
            rows.add_row(
                tally.variant, tally.tier, *cells, *found, f"{tally.seconds:.1f}", Text(tally.nothing_ran or "")
            )
        self._console.print()
        self._console.print(rows)

    def _print_checks(self, tally: Tally) -> None:
        rows = new_table("check", *STATUSES, "seconds")
        for name, results in tally.checks.items():
            if results[0].get("trait"):
                continue
            counts = Counter(result["status"] for result in results)
            cells = [Text(str(counts[status] or ""), style=COLOURS[status]) for status in STATUSES]
            seconds = sum(result.get("seconds") or 0.0 for result in results)
            rows.add_row(Text(name, style=COLOURS["failed"] if counts["failed"] else ""), *cells, f"{seconds:.1f}")
        total = [Text(str(tally.counts[status]), style="bold") for status in STATUSES]
        rows.add_row(Text("all", style="bold"), *total, f"{tally.seconds:.1f}")
        self._console.print(rows)

    def _print_traits(self, tally: Tally) -> None:
        if tally.traits:
            rows = new_table("trait, found and not demanded", "holds")
            for name, found in tally.traits.items():
                rows.add_row(name, found)
            self._console.print()
            self._console.print(rows)

    def _print_failures(self, failures: list[Result]) -> None:
        bug = shared_bug(failures)
        for result in (shown := select_failures(failures)):
            self._console.print()
            self._console.print(Text(f"{result['check']} on {result['workload_id']}", style=COLOURS["failed"]))
            explained = bug is not None and bool(result.get("bug"))  # then fixing that bug is the remedy
            for title, text in _lines(result, without=("remedy",) if explained else ()):  # not wrapped, for copying
                self._console.print(Text(f"  {title}", style="bold").append(text, style="not bold"), soft_wrap=True)
        for last in (not_shown(failures, shown), bug):
            if last is not None:
                self._console.print()
                self._console.print(Text(printable(last), style="bold"), soft_wrap=True)


def by_check(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Return the results by their check, in order of arrival."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["check"], []).append(result)
    return found


def select_failures(failures: Sequence[Result]) -> list[Result]:
    """Return at most MOST_SHOWN failures, grouped by check: the first of each check, then the second, and so on."""
    rounds = itertools.zip_longest(*(results[:MOST_SHOWN_OF_CHECK] for results in by_check(failures).values()))
    selected = [result for each in rounds for result in each if result is not None][:MOST_SHOWN]
    return [result for results in by_check(selected).values() for result in results]


def not_shown(failures: Sequence[Result], shown: Sequence[Result]) -> str | None:
    """Return a line with the number of failures of each check that are not shown, or None if all are."""
    kept = {id(result) for result in shown}
    rest = Counter(result["check"] for result in failures if id(result) not in kept)
    if not rest:
        return None
    counts = ", ".join(f"{count} of {name}" for name, count in rest.items())
    return f"not shown: {counts}; --json has them all, --only {next(iter(rest))} those of one check"


def shared_bug(failures: Sequence[Result]) -> str | None:
    """Return a line with the bug that at least half of the failures look like, or None if there is no such bug."""
    bugs = [str(result["bug"]) for result in failures if result.get("bug")]
    alike = Counter(NUMBER.sub("#", bug) for bug in bugs).most_common(1)
    if not alike or alike[0][1] < max(FEWEST_ALIKE, len(failures) / 2):
        return None
    kind, count = alike[0]
    bug = Counter(bug for bug in bugs if NUMBER.sub("#", bug) == kind).most_common(1)[0][0]
    return f"{count} of {len(failures)} failures look like one bug, to be fixed first: {bug}"


def _lines(result: Result, without: Sequence[str] = ()) -> list[tuple[str, str]]:
    pairs = (("", "reason"), ("remedy ", "remedy"), ("again  ", "repro"))
    return [(title, printable(str(result[name]))) for title, name in pairs if result.get(name) and name not in without]
