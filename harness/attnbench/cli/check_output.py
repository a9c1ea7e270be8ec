"""What `attnbench check` shows: tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attnbench.cli.failures import by_check, chosen, left_out, shared_bug
from attnbench.cli.run_output import table
from attnbench.plan.variant_traits import holds
from attnbench.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

SHOWN = ("passed", "failed", "skipped")
OF_REFUSALS = "refusals"  # a check that runs what a variant refuses
COLOURS = {"passed": "green", "failed": "bold red", "skipped": "bright_black"}


class Tally:
    """What came of one variant's tests."""

    def __init__(self, variant: str, tier: str) -> None:
        self.variant, self.tier = variant, tier
        self.results: list[dict[str, Any]] = []

    @property
    def counts(self) -> Counter[str]:
        """Tests by status."""
        return Counter(result["status"] for result in self.results)

    @property
    def seconds(self) -> float:
        """Seconds that the tests took."""
        return float(sum(result.get("seconds") or 0.0 for result in self.results))

    @property
    def nothing_ran(self) -> str | None:
        """The commonest reason, where every test was skipped but for the one that only what is refused does fail."""
        skipped = [result for result in self.results if result["status"] == "skipped"]
        ran = {(result["check"], result["status"]) for result in self.results if result["status"] != "skipped"}
        if not skipped or ran - {(OF_REFUSALS, "passed")}:
            return None
        reasons = Counter(str(result.get("refusal") or result.get("reason") or "") for result in skipped)
        return reasons.most_common(1)[0][0]

    @property
    def checks(self) -> dict[str, list[dict[str, Any]]]:
        """Results by check, in the order in which they came."""
        return by_check(self.results)

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The tests that failed."""
        return [result for result in self.results if result["status"] == "failed"]

    @property
    def traits(self) -> dict[str, str]:
        """Of each trait, whether it holds: yes, no, `no, though claimed`, or not run."""
        told = {name: results for name, results in self.checks.items() if results[0].get("trait")}
        return {name: holds({result["status"] for result in results}) for name, results in told.items()}

    @property
    def hints(self) -> dict[str, str]:
        """The first hint of each check that is no trait."""
        hinted = (result for result in self.results if result["status"] == "hint" and not result.get("trait"))
        return {result["check"]: str(result["reason"]) for result in reversed(list(hinted))}


class Shown:
    """What hears of each variant and test, and shows nothing by itself."""

    def begin(self, tally: Tally) -> None:
        """Hear that a variant's tests begin."""

    def heard(self, tally: Tally, result: dict[str, Any]) -> None:
        """Hear of one test."""

    def end(self, tally: Tally) -> None:
        """Hear that a variant's tests are done."""

    def close(self, tallies: Sequence[Tally]) -> None:
        """Hear that all variants are done."""


class Document(Shown):
    """All results as one JSON list."""

    def close(self, tallies: Sequence[Tally]) -> None:
        """Print the list."""
        results = [{"variant": tally.variant, **result} for tally in tallies for result in tally.results]
        print(json.dumps(results, indent=1))


class Lines(Shown):
    """Plain lines: each failure at once, then the counts."""

    def heard(self, tally: Tally, result: dict[str, Any]) -> None:
        """Tell of a failure."""
        if result["status"] == "failed":
            print(f"FAILED {tally.variant}: {result['check']} on {result['workload_id']}")
            for title, text in _lines(result):
                print(f"  {title}{text}")
            sys.stdout.flush()

    def end(self, tally: Tally) -> None:
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
        counts = ", ".join(f"{tally.counts[status]} {status}" for status in SHOWN if tally.counts[status])
        print(f"{tally.variant} ({tally.tier}): {counts} in {tally.seconds:.1f} s", flush=True)


class Tables(Shown):
    """A table of checks for each variant with its failures below, and one of all variants."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def begin(self, tally: Tally) -> None:
        """Show that work goes on."""
        self._status = self._console.status(tally.variant)
        self._status.start()

    def heard(self, tally: Tally, result: dict[str, Any]) -> None:
        """Show which check runs, and how many passed and failed."""
        counts = tally.counts
        if self._status is not None:
            self._status.update(
                Text(f"{tally.variant}  {result['check']}  {counts['passed']} passed, {counts['failed']} failed")
            )

    def end(self, tally: Tally) -> None:
        """Print the table of checks, then failures with what to do."""
        if self._status is not None:
            self._status.stop()
        console = self._console
        if tally.nothing_ran:
            console.print(Text(f"{tally.variant}: nothing could be run: {tally.nothing_ran}"))
            return
        console.print(Text(f"{tally.variant}", style="bold").append(f" (tier {tally.tier})", style="not bold"))
        rows = table("check", *SHOWN, "seconds")
        for name, results in tally.checks.items():
            if results[0].get("trait"):
                continue
            counts = Counter(result["status"] for result in results)
            cells = [Text(str(counts[status] or ""), style=COLOURS[status]) for status in SHOWN]
            seconds = sum(result.get("seconds") or 0.0 for result in results)
            rows.add_row(Text(name, style=COLOURS["failed"] if counts["failed"] else ""), *cells, f"{seconds:.1f}")
        total = [Text(str(tally.counts[status]), style="bold") for status in SHOWN]
        rows.add_row(Text("all", style="bold"), *total, f"{tally.seconds:.1f}")
        console.print(rows)
        self._print_traits(tally)
        self._print_failures(tally.failures)
        for name, reason in tally.hints.items():
            console.print(Text(f"hint  {name}: {reason}", style="yellow"), soft_wrap=True)

    def close(self, tallies: Sequence[Tally]) -> None:
        """Print one row a variant, where there are several."""
        if len(tallies) < 2:
            return
        traits = list(dict.fromkeys(name for tally in tallies for name in tally.traits))
        rows = table("variant", "tier", *SHOWN, *traits, "seconds", "")
        for tally in tallies:
            cells = [Text(str(tally.counts[status] or ""), style=COLOURS[status]) for status in SHOWN]
            holds = [tally.traits.get(name, "") for name in traits]
            rows.add_row(
                tally.variant, tally.tier, *cells, *holds, f"{tally.seconds:.1f}", Text(tally.nothing_ran or "")
            )
        self._console.print()
        self._console.print(rows)

    def _print_traits(self, tally: Tally) -> None:
        if tally.traits:
            rows = table("trait, found and not demanded", "holds")
            for name, holds in tally.traits.items():
                rows.add_row(name, holds)
            self._console.print()
            self._console.print(rows)

    def _print_failures(self, failures: list[dict[str, Any]]) -> None:
        bug = shared_bug(failures)
        for result in (shown := chosen(failures)):
            self._console.print()
            self._console.print(Text(f"{result['check']} on {result['workload_id']}", style=COLOURS["failed"]))
            shared = bug is not None and bool(result.get("bug"))  # that bug is the remedy, not what this check advises
            for title, text in _lines(result, without=("remedy",) if shared else ()):  # unwrapped, to be copied
                self._console.print(Text(f"  {title}", style="bold").append(text, style="not bold"), soft_wrap=True)
        for last in (left_out(failures, shown), bug):
            if last is not None:
                self._console.print()
                self._console.print(Text(printable(last), style="bold"), soft_wrap=True)


def _lines(result: dict[str, Any], without: Sequence[str] = ()) -> list[tuple[str, str]]:
    pairs = (("", "reason"), ("remedy ", "remedy"), ("again  ", "repro"))
    return [(title, printable(str(result[name]))) for title, name in pairs if result.get(name) and name not in without]
