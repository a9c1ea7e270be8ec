"""Output of `attnbench check`: tables on a terminal, plain lines if the output is piped, or JSON."""

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
REFUSALS = "refusals"  # name of the check that looks for needlessly refused workloads
COLOURS = {"passed": "green", "failed": "bold red", "skipped": "bright_black"}
MAX_FAILURES_SHOWN = 6  # on a terminal; plain lines and JSON show all failures
MAX_FAILURES_SHOWN_PER_CHECK = 3
MIN_FAILURES_OF_SHARED_BUG = 3  # a bug that explains fewer failures is not reported as a shared bug
NUMBER = re.compile(r"\d[\d.e+-]*")  # ignored when bugs are compared, because the numbers vary between workloads

Result = dict[str, Any]  # a CheckResult, converted to JSON values


class Tally:
    """The test results of one variant."""

    def __init__(self, variant: str, tier: str) -> None:
        self.variant, self.tier = variant, tier
        self.results: list[Result] = []

    @property
    def counts(self) -> Counter[str]:
        """The number of tests by status."""
        return Counter(result["status"] for result in self.results)

    @property
    def seconds(self) -> float:
        """The time that the tests took, in seconds."""
        return float(sum(result.get("seconds") or 0.0 for result in self.results))

    @property
    def nothing_ran(self) -> str | None:
        """The most common reason for skipping tests, or None if any test ran.

        Passed tests of the `refusals` check do not count, because they pass if the variant refuses a workload.
        """
        skipped = [result for result in self.results if result["status"] == "skipped"]
        ran = {(result["check"], result["status"]) for result in self.results if result["status"] != "skipped"}
        if not skipped or ran - {(REFUSALS, "passed")}:
            return None
        reasons = Counter(str(result.get("refusal") or result.get("reason") or "") for result in skipped)
        return reasons.most_common(1)[0][0]

    @property
    def checks(self) -> dict[str, list[Result]]:
        """The results grouped by check, in the order in which the tests ran."""
        return by_check(self.results)

    @property
    def failures(self) -> list[Result]:
        """The tests that failed."""
        return [result for result in self.results if result["status"] == "failed"]

    @property
    def traits(self) -> dict[str, str]:
        """For each trait, whether the variant has it: `yes`, `no`, `no, though claimed` or `not run`."""
        traits = {name: results for name, results in self.checks.items() if results[0].get("trait")}
        return {name: holds({result["status"] for result in results}) for name, results in traits.items()}

    @property
    def hints(self) -> dict[str, str]:
        """The first hint of each check, keyed by the check's name. Trait checks are left out."""
        hints = (result for result in self.results if result["status"] == "hint" and not result.get("trait"))
        return {result["check"]: str(result["reason"]) for result in reversed(list(hints))}


class CheckOutput:
    """Base class for the output of `attnbench check`, with a method for each event. Its methods print nothing."""

    def variant_started(self, tally: Tally) -> None:
        """Handle the start of a variant's tests."""

    def test_finished(self, tally: Tally, result: Result) -> None:
        """Handle the result of one test."""

    def variant_finished(self, tally: Tally) -> None:
        """Handle the end of a variant's tests."""

    def finished(self, tallies: Sequence[Tally]) -> None:
        """Handle the end of all tests."""


class JsonOutput(CheckOutput):
    """Output that consists of one JSON list with all results."""

    def finished(self, tallies: Sequence[Tally]) -> None:
        """Print the results of all variants."""
        results = [{"variant": tally.variant, **result} for tally in tallies for result in tally.results]
        print(json.dumps(results, indent=1))


class LineOutput(CheckOutput):
    """Output as plain lines: each failure as it occurs, and the counts of each variant after its tests."""

    def test_finished(self, tally: Tally, result: Result) -> None:
        """Print the result if the test failed."""
        if result["status"] == "failed":
            print(f"FAILED {tally.variant}: {result['check']} on {result['workload_id']}")
            for title, text in _lines(result):
                print(f"  {title}{text}")
            sys.stdout.flush()

    def variant_finished(self, tally: Tally) -> None:
        """Print the variant's hints, traits and counts."""
        for name, reason in tally.hints.items():
            print(f"hint   {tally.variant}: {name}: {reason}")
        if tally.nothing_ran:
            print(f"{tally.variant}: no test could run: {tally.nothing_ran}", flush=True)
            return
        if bug := shared_bug(tally.failures):
            print(f"{tally.variant}: {printable(bug)}")
        if tally.traits:
            print(f"traits {tally.variant}: {', '.join(f'{name} {holds}' for name, holds in tally.traits.items())}")
        counts = ", ".join(f"{tally.counts[status]} {status}" for status in STATUSES if tally.counts[status])
        print(f"{tally.variant} ({tally.tier}): {counts} in {tally.seconds:.1f} s", flush=True)


class TableOutput(CheckOutput):
    """Output as tables: each variant's checks, followed by its failures, and a summary of all variants at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def variant_started(self, tally: Tally) -> None:
        """Show a spinner with the variant's name."""
        self._status = self._console.status(tally.variant)
        self._status.start()

    def test_finished(self, tally: Tally, result: Result) -> None:
        """Show the current check, and how many tests have passed and failed."""
        counts = tally.counts
        if self._status is not None:
            self._status.update(
                Text(f"{tally.variant}  {result['check']}  {counts['passed']} passed, {counts['failed']} failed")
            )

    def variant_finished(self, tally: Tally) -> None:
        """Print the table of checks, the traits, and the failures with their remedies."""
        if self._status is not None:
            self._status.stop()
        if tally.nothing_ran:
            self._console.print(Text(f"{tally.variant}: no test could run: {tally.nothing_ran}"))
            return
        title = Text(f"{tally.variant}", style="bold").append(f" (tier {tally.tier})", style="not bold")
        self._console.print(title)
        self._print_checks(tally)
        self._print_traits(tally)
        self._print_failures(tally.failures)
        for name, reason in tally.hints.items():
            self._console.print(Text(f"hint  {name}: {reason}", style="yellow"), soft_wrap=True)

    def finished(self, tallies: Sequence[Tally]) -> None:
        """Print a table with one row per variant, if there are several variants."""
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
            rows = new_table("trait (optional)", "holds")
            for name, found in tally.traits.items():
                rows.add_row(name, found)
            self._console.print()
            self._console.print(rows)

    def _print_failures(self, failures: list[Result]) -> None:
        bug = shared_bug(failures)
        for result in (shown := select_failures(failures)):
            self._console.print()
            self._console.print(Text(f"{result['check']} on {result['workload_id']}", style=COLOURS["failed"]))
            # If the shared bug explains the failure, the check's own remedy is not shown.
            explained = bug is not None and bool(result.get("bug"))
            # Lines are not wrapped, so that commands can be copied.
            for title, text in _lines(result, without=("remedy",) if explained else ()):
                self._console.print(Text(f"  {title}", style="bold").append(text, style="not bold"), soft_wrap=True)
        for line in (count_hidden(failures, shown), bug):
            if line is not None:
                self._console.print()
                self._console.print(Text(printable(line), style="bold"), soft_wrap=True)


def by_check(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Return the results grouped by check, in their original order."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["check"], []).append(result)
    return found


def select_failures(failures: Sequence[Result]) -> list[Result]:
    """Return the failures to show, at most MAX_FAILURES_SHOWN in total and MAX_FAILURES_SHOWN_PER_CHECK per check.

    Failures are selected in rounds. Each round takes the next failure of every check. The selected failures are then
    grouped by check.
    """
    rounds = itertools.zip_longest(*(results[:MAX_FAILURES_SHOWN_PER_CHECK] for results in by_check(failures).values()))
    selected = [result for each in rounds for result in each if result is not None][:MAX_FAILURES_SHOWN]
    return [result for results in by_check(selected).values() for result in results]


def count_hidden(failures: Sequence[Result], shown: Sequence[Result]) -> str | None:
    """Return a line that says how many failures of each check are not shown, or None if all are shown."""
    kept = {id(result) for result in shown}
    rest = Counter(result["check"] for result in failures if id(result) not in kept)
    if not rest:
        return None
    counts = ", ".join(f"{count} of {name}" for name, count in rest.items())
    return f"not shown: {counts}; --json shows all failures, and --only {next(iter(rest))} shows those of one check"


def shared_bug(failures: Sequence[Result]) -> str | None:
    """Return a line about the bug that probably causes at least half of the failures, or None if there is none."""
    bugs = [str(result["bug"]) for result in failures if result.get("bug")]
    alike = Counter(NUMBER.sub("#", bug) for bug in bugs).most_common(1)
    if not alike or alike[0][1] < max(MIN_FAILURES_OF_SHARED_BUG, len(failures) / 2):
        return None
    kind, count = alike[0]
    bug = Counter(bug for bug in bugs if NUMBER.sub("#", bug) == kind).most_common(1)[0][0]
    return f"{count} of {len(failures)} failures look like the same bug; fix it first: {bug}"


def _lines(result: Result, without: Sequence[str] = ()) -> list[tuple[str, str]]:
    pairs = (("", "reason"), ("remedy ", "remedy"), ("again  ", "repro"))
    return [(title, printable(str(result[name]))) for title, name in pairs if result.get(name) and name not in without]
