"""Which of a variant's failures are worth a reader's time, and whether they look like one bug."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

MOST, MOST_OF_CHECK = 6, 3  # that a terminal shows; plain lines and JSON have them all
FEWEST_ALIKE = 3  # failures that look like one bug, before that is worth a line
NUMBER = re.compile(r"\d[\d.e+-]*")  # the same bug is off by another factor elsewhere

Result = dict[str, Any]


def by_check(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Give results by their check, in the order in which they came."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["check"], []).append(result)
    return found


def chosen(failures: Sequence[Result]) -> list[Result]:
    """Pick at most MOST failures: the first of each check, then the second, and so on; in the order of the checks."""
    turns = itertools.zip_longest(*(results[:MOST_OF_CHECK] for results in by_check(failures).values()))
    picked = [result for turn in turns for result in turn if result is not None][:MOST]
    return [result for results in by_check(picked).values() for result in results]


def left_out(failures: Sequence[Result], shown: Sequence[Result]) -> str | None:
    """Say how many failures are not shown, of which checks, and how to see them."""
    kept = {id(result) for result in shown}
    rest = Counter(result["check"] for result in failures if id(result) not in kept)
    if not rest:
        return None
    counts = ", ".join(f"{count} of {name}" for name, count in rest.items())
    return f"not shown: {counts}; --json has them all, --only {next(iter(rest))} those of one check"


def shared_bug(failures: Sequence[Result]) -> str | None:
    """Say which single bug most of the failures look like; None where they have none in common."""
    bugs = [str(result["bug"]) for result in failures if result.get("bug")]
    alike = Counter(NUMBER.sub("#", bug) for bug in bugs).most_common(1)
    if not alike or alike[0][1] < max(FEWEST_ALIKE, len(failures) / 2):
        return None
    kind, count = alike[0]
    bug = Counter(bug for bug in bugs if NUMBER.sub("#", bug) == kind).most_common(1)[0][0]
    return f"{count} of {len(failures)} failures look like one bug, to be mended first: {bug}"
