"""The tables of a report, as data: standings, latencies, what failed, and where it all came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attnbench.analysis.load_runs import UNCHECKED
from attnbench.analysis.noise import noise_text
from attnbench.analysis.ranking import CONTEST, Contest, Standing, contests
from attnbench.analysis.results import Results
from attnbench.analysis.series import Series, series
from attnbench.measure_config import MeasureConfig
from attnbench.report.standards import standards
from attnbench.report.table import Table, TableCell, row
from attnbench.untrusted import listing, mapping

if TYPE_CHECKING:
    import pandas as pd

STATUS_TEXT = {"out_of_memory": "OOM", "incorrect": "WRONG", "unsupported": "n/a"}
LATENCY_COLUMNS = [
    "variant", "status", "flags", "length", "batch", "workload_id", "seq_q", "seq_k", "latency_ms", "latency_low_ms",
    "latency_high_ms", "leads",
]  # fmt: skip
UNTOLD = ("schema", "run_id", "plan", "doctor")  # of a manifest, in the table of provenance
DOCTOR_LEVELS = ("warning", "unknown", "ok")
LISTED = 4  # workloads named one by one in the table of failures


def headline(frame: pd.DataFrame, baseline: str | None = None) -> list[Table]:
    """Rank the variants of each device, mask and direction, a table each, best first, with the verdict in words.

    `baseline` is the variant that speed-ups are over; None takes the runs' own.
    """
    results = Results(frame, baseline)
    return standings(results, contests(results))


def standings(results: Results, ranked: Sequence[Contest]) -> list[Table]:
    """Return the headline tables of contests that were ranked already."""
    by_key = dict(iter(results.frame.groupby(CONTEST)))
    noises = [noise_text(results.noise_within(by_key[_key(contest)])) for contest in ranked]
    return [_standings(contest, noise, results.baseline) for contest, noise in zip(ranked, noises, strict=True)]


def method(results: Results) -> list[Table]:
    """Say how the numbers were made: protocol by kind of device, what was flagged, and what `doctor` found."""
    manifests = list(results.manifests.values())
    protocols = {
        (kind, name, str(MeasureConfig().precision_on(kind) if name == "precision" and value is None else value))
        for manifest in manifests
        for kind, protocol in mapping(manifest.get("protocols")).items()
        for name, value in mapping(protocol).items()
    }
    timed = results.current
    timed = timed[timed["status"] == "ok"]
    throttled = timed["throttled_share"].dropna()
    share = f"{throttled.mean():.1%}" if len(throttled) else "unknown: no clock or throttle state could be read"
    quality = [
        row("A/A control", noise_text(results.noise)),
        row("cells stopped by the budget before they reached the precision", _share(timed["stopped_by"] == "budget")),
        row("blocks measured under throttling or another's load", share),
        row("cells with more than 10% of their blocks so", _share(throttled > 0.1)),
    ]
    flags = Counter(flag for names in timed["flags"] for flag in names)
    quality += [row(f"cells flagged {flag}", count) for flag, count in sorted(flags.items())]
    made = [
        Table("Protocol", ("devices", "setting", "value"), tuple(row(*one) for one in sorted(protocols)), labels=3),
        Table("How far to trust it", ("what", "value"), tuple(quality), labels=2),
        standards(manifests),
        doctor(manifests),
    ]
    return [table for table in made if table.rows]


def doctor(manifests: Iterable[dict[str, Any]]) -> Table:
    """Say what `attnbench doctor` found on each run's machine when the run began, warnings first."""
    found = [
        (str(manifest.get("run_id", "?")), {name: str(value) for name, value in finding.items() if value is not None})
        for manifest in manifests
        for finding in listing(manifest.get("doctor"))
        if isinstance(finding, dict)
    ]
    found.sort(key=lambda one: _level(one[1].get("level", "unknown")))
    rows = [
        row(run, told.get("level", "unknown"), told.get("check"), told.get("found"), told.get("remedy"))
        for run, told in found
    ]
    title = "What attnbench doctor found when the run began"
    return _of_runs(title, ("run", "level", "check", "found", "remedy"), rows)


def latencies(results: Results, limit: int | None = None) -> list[Table]:
    """Median latency of each variant on each shape, a table a series; fastest bold, ties italic, failures in words."""
    return [
        _latency_table(one, (noise_text(results.noise_within(one.frame)),)) for one in series(results.exact)[:limit]
    ]


def inexact(results: Results, limit: int | None = None) -> list[Table]:
    """List times of variants that are no softmax attention: they answer another question and are not ranked."""
    cells = results.current
    cells = cells[~cells["exact"] & ~cells["control"]].assign(leads=False)
    return [_latency_table(one) for one in series(cells)[:limit]]


def failures(results: Results) -> Table:
    """List every cell that is not ok, with its reason; cells of one variant with one reason share a row."""
    bad = results.current
    bad = bad[bad["status"] != "ok"].assign(reason=bad["reason"].fillna("no reason recorded"))
    keys = ["device_name", "variant", "status", "reason"]
    rows = [
        row(*key, _some(cells["workload_id"]), len(cells))
        for key, cells in sorted(bad.groupby(keys), key=lambda item: (item[0][2] == "unsupported", item[0]))
    ]
    columns = ("device", "variant", "status", "reason", "workloads", "cells")
    return Table("Cells without a time", columns, tuple(rows), labels=5)


def provenance(manifests: Iterable[dict[str, Any]]) -> Table:
    """Say of each run where, when and with what it was made, as its manifest has it; the plan is in the data."""
    rows = []
    for manifest in manifests:
        run = str(manifest.get("run_id", "?"))
        told = {name: value for name, value in manifest.items() if name not in UNTOLD}
        rows += [row(run, name, value) for name, value in _flat(told)]
    return _of_runs("Provenance", ("run", "field", "value"), rows)


def _of_runs(title: str, columns: tuple[str, ...], rows: Sequence[tuple[TableCell, ...]]) -> Table:
    """Make a table of texts whose first column names the run, and leave that out where there is but one."""
    if len({cells[0].text for cells in rows}) == 1:
        columns, rows = columns[1:], [cells[1:] for cells in rows]
    return Table(title, columns, tuple(rows), labels=len(columns))


def latency_text(milliseconds: float) -> str:
    """Write a latency in ms with three significant digits."""
    return f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:.0f}"


def _key(contest: Contest) -> tuple[str, str, str, str]:
    return contest.device_name, contest.mask, contest.direction, contest.mode


def _standings(contest: Contest, noise_note: str, baseline: str | None) -> Table:
    best = max((one.fastest for one in contest.standings), default=0)
    columns = (
        "variant",
        "ranked / cells",
        "fastest in",
        "tied first in",
        f"speed-up over {baseline}",
        "range",
        "best TFLOP/s",
    )
    mode = "" if contest.mode == "hot" else f" · {contest.mode}"
    able = [one for one in contest.standings if one.unsupported < one.cells]
    return Table(
        f"{contest.device_name} · {contest.mask} · {contest.direction}{mode}",
        columns,
        tuple(_standing_row(one, best, baseline) for one in able),
        (contest.verdict, *_unable(len(contest.standings) - len(able)), noise_note),
    )


def _unable(count: int) -> list[str]:
    """Say how many variants stand in no row, because none of the cells is one that they can do."""
    variants = "1 more variant" if count == 1 else f"{count} more variants"
    return [f'{variants} can do none of these; "Cells without a time" in the report says why.'] if count else []


def _standing_row(one: Standing, best: int, baseline: str | None) -> tuple[TableCell, ...]:
    speedup = "1 (baseline)" if one.variant == baseline else "" if one.speedup is None else f"{one.speedup:.2f}x"
    span = "" if one.speedup_low is None else f"{one.speedup_low:.2f}x to {one.speedup_high:.2f}x"
    leads = best > 0 and one.fastest == best
    return row(
        TableCell(one.variant, best=leads),
        f"{one.ranked} / {one.cells}",
        TableCell(str(one.fastest), best=leads),
        one.tied,
        speedup,
        span,
        "" if one.tflops is None else f"{one.tflops:.3g}",
    )


def _latency_table(one: Series, noise_notes: tuple[str, ...] = ()) -> Table:
    """Return the table of one series."""
    variants = sorted(one.frame["variant"].unique())
    shapes: dict[tuple[int, int, str], dict[str, Any]] = {}
    for cell in one.frame.loc[~one.frame["control"], LATENCY_COLUMNS].to_dict("records"):
        shapes.setdefault((cell["length"], cell["batch"], cell["workload_id"]), {})[cell["variant"]] = cell
    rows = []
    for _, cells in sorted(shapes.items()):
        first = next(iter(cells.values()))
        length = str(first["seq_q"]) if first["seq_q"] == first["seq_k"] else f"{first['seq_q']} x {first['seq_k']}"
        leaders = _leaders(cells)
        rows.append(row(length, first["batch"], *(_latency_cell(cells.get(name), leaders) for name in variants)))
    notes = ("Median latency in ms ± half the 95% interval of the median.", *noise_notes)
    return Table(f"{one.device_name}: {one.title}", ("sequence", "batch", *variants), tuple(rows), notes)


def _leaders(cells: dict[str, dict[str, Any]]) -> set[str]:
    """Name the variants that are first, or not told to be slower than the first; none where one ran alone."""
    ok = [cell for cell in cells.values() if cell["status"] == "ok" and UNCHECKED not in cell["flags"]]
    return {cell["variant"] for cell in ok if cell["leads"]} if len(ok) > 1 else set()


def _latency_cell(cell: dict[str, Any] | None, leaders: set[str]) -> TableCell:
    if cell is None:
        return TableCell("")
    if cell["status"] != "ok":
        return TableCell(STATUS_TEXT.get(cell["status"], cell["status"]))
    half = (cell["latency_high_ms"] - cell["latency_low_ms"]) / 2
    text = f"{latency_text(cell['latency_ms'])} ± {half:.1g}"
    leads = cell["variant"] in leaders
    return TableCell(text, best=leads and len(leaders) == 1, tied=leads and len(leaders) > 1)


def _some(names: pd.Series) -> str:
    listed = sorted(set(names))
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more


def _level(level: str) -> int:
    return DOCTOR_LEVELS.index(level) if level in DOCTOR_LEVELS else 1


def _share(which: pd.Series) -> str:
    return f"{int(which.sum())} of {len(which)}" if len(which) else "unknown"


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{index}")
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "unknown" if value is None else str(value)
