"""The tables of a report, as data: standings, latencies, failures, method and provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attnbench.analysis.load_runs import NOT_RANKED
from attnbench.analysis.ranking import CONTEST, Contest, Standing, contests
from attnbench.analysis.results import Results
from attnbench.analysis.series import Series, series
from attnbench.analysis.verdict import noise_text
from attnbench.measure_config import DEFAULT_PRECISION
from attnbench.record import SUSPECT
from attnbench.report.derived_tables import SPAN, tiers_and_traits
from attnbench.report.table import Table, TableCell, row
from attnbench.stats.disturbance import DISTURBED, DISTURBED_LIMIT
from attnbench.untrusted import listing, mapping

if TYPE_CHECKING:
    import pandas as pd

STATUS_TEXT = {"out_of_memory": "OOM", "incorrect": "WRONG", "unsupported": "n/a"}
LATENCY_COLUMNS = [
    "variant", "status", "flags", "length", "batch", "workload_id", "seq_q", "seq_k", "latency_ms", "latency_low_ms",
    "latency_high_ms", "leads",
]  # fmt: skip
NOT_PROVENANCE = ("schema", "run_id", "plan", "doctor")  # fields of a manifest that the provenance table omits
DOCTOR_LEVELS = ("warning", "unknown", "ok")
LATENCY_NOTE = (
    "Median latency in ms with its 95% interval: ± if the interval reaches equally far down and up, and otherwise"
    " (-down, +up)."
)
MAX_LISTED_WORKLOADS = 4  # per row of the failures table


def headline(frame: pd.DataFrame, baseline: str | None = None) -> list[Table]:
    """Return a table of standings for each device, mask, direction and mode.

    Each table lists the best variant first, and its first note is the verdict. `frame` is a frame from
    `attnbench.load`. `baseline` is the variant that speed-ups are relative to; None means the runs' own baseline.
    """
    results = Results(frame, baseline)
    return standings(results, contests(results))


def standings(results: Results, ranked: Sequence[Contest]) -> list[Table]:
    """Return the headline table of each contest."""
    by_key = dict(iter(results.frame.groupby(CONTEST)))
    noises = [noise_text(results.noise_floor_within(by_key[_key(contest)])) for contest in ranked]
    return [_standings(contest, noise, results.baseline) for contest, noise in zip(ranked, noises, strict=True)]


def method(results: Results) -> list[Table]:
    """Return the tables that describe the method: settings, data quality, tiers and traits, and `doctor` findings."""
    manifests = results.manifests
    protocols = {
        (kind, name, str(DEFAULT_PRECISION.get(kind, value) if name == "precision" and value is None else value))
        for manifest in manifests
        for kind, protocol in mapping(manifest.get("protocols")).items()
        for name, value in mapping(protocol).items()
    }
    timed = results.current
    timed = timed[timed["status"] == "ok"]
    throttled, disturbed = timed["throttled_share"].dropna(), timed["disturbed_share"].dropna()
    unknown = "unknown: no clock or throttle state could be read"
    quality = [
        row("noise floor", noise_text(results.noise_floor)),
        row(
            "cells that used up the time budget before reaching the precision", _share(timed["stopped_by"] == "budget")
        ),
        row("blocks timed while limits kept the clocks down", f"{throttled.mean():.1%}" if len(throttled) else unknown),
        row("cells with more than 10% such blocks", _share(throttled > 0.1)),
        row("blocks in which others had the cores", f"{disturbed.mean():.1%}" if len(disturbed) else unknown),
        row("cells with more than 50% such blocks, which have no verdict", _share(disturbed > DISTURBED_LIMIT)),
    ]
    flags = Counter(flag for names in timed["flags"] for flag in names)
    quality += [row(f"cells flagged {flag}", count) for flag, count in sorted(flags.items())]
    made = [
        Table(
            "Protocol", ("devices", "setting", "value"), tuple(row(*setting) for setting in sorted(protocols)), labels=3
        ),
        Table("Data quality", ("what", "value"), tuple(quality), labels=2),
        tiers_and_traits(manifests),
        doctor(manifests),
    ]
    return [table for table in made if table.rows]


def doctor(manifests: Iterable[dict[str, Any]]) -> Table:
    """Return a table of what `attnbench doctor` found at the start of each run, with warnings first."""
    found = [
        (str(manifest.get("run_id", "?")), {name: str(value) for name, value in finding.items() if value is not None})
        for manifest in manifests
        for finding in listing(manifest.get("doctor"))
        if isinstance(finding, dict)
    ]
    found.sort(key=lambda finding: _level(finding[1].get("level", "unknown")))
    rows = [
        row(run, finding.get("level", "unknown"), finding.get("check"), finding.get("found"), finding.get("remedy"))
        for run, finding in found
    ]
    title = "Findings of attnbench doctor at the start of the run"
    return _of_runs(title, ("run", "level", "check", "found", "remedy"), rows)


def latencies(results: Results, limit: int | None = None) -> list[Table]:
    """Return the median latencies of exact variants, in one table for each series.

    The fastest variant of a shape is bold, and variants that are tied for first place are italic. A cell without a time
    shows its status.
    """
    lines = series(results.exact)[:limit]
    return [_latency_table(line, (noise_text(results.noise_floor_within(line.frame)),)) for line in lines]


def inexact(results: Results, limit: int | None = None) -> list[Table]:
    """Return the latencies of inexact variants, which are not ranked because they don't compute softmax attention."""
    cells = results.current
    cells = cells[~cells["exact"] & ~cells["control"]].assign(leads=False)
    return [_latency_table(line) for line in series(cells)[:limit]]


def failures(results: Results) -> Table:
    """Return a table of the cells that are not ok, or whose times are suspect.

    A variant's cells with the same status and reason share a row.
    """
    cells = results.current
    suspect = cells["flags"].map(lambda flags: SUSPECT in flags).astype(bool)
    bad = cells.assign(
        status=cells["status"].mask(suspect, SUSPECT), reason=cells["reason"].fillna("no reason recorded")
    )
    bad = bad[bad["status"] != "ok"]
    keys = ["device_name", "variant", "status", "reason"]
    rows = [
        row(*key, _some(cells["workload_id"]), len(cells))
        for key, cells in sorted(bad.groupby(keys), key=lambda item: (item[0][2] == "unsupported", item[0]))
    ]
    columns = ("device", "variant", "status", "reason", "workloads", "cells")
    return Table("Cells without a time, and suspect times", columns, tuple(rows), labels=5)


def provenance(manifests: Iterable[dict[str, Any]]) -> Table:
    """Return a table of each run's origin: the fields of its manifest except those in NOT_PROVENANCE."""
    rows = []
    for manifest in manifests:
        run = str(manifest.get("run_id", "?"))
        fields = {name: value for name, value in manifest.items() if name not in NOT_PROVENANCE}
        rows += [row(run, name, value) for name, value in _flat(fields)]
    return _of_runs("Provenance", ("run", "field", "value"), rows)


def _of_runs(title: str, columns: tuple[str, ...], rows: Sequence[tuple[TableCell, ...]]) -> Table:
    """Return a table whose first column names the run. That column is left out if there is only one run."""
    if len({cells[0].text for cells in rows}) == 1:
        columns, rows = columns[1:], [cells[1:] for cells in rows]
    return Table(title, columns, tuple(rows), labels=len(columns))


def latency_text(milliseconds: float) -> str:
    """Return a latency in ms as text: three significant digits below 1000 ms, and a whole number from 1000 ms on."""
    return f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:.0f}"


def _key(contest: Contest) -> tuple[str, str, str, str]:
    return contest.device_name, contest.mask, contest.direction, contest.mode


def _standings(contest: Contest, noise_note: str, baseline: str | None) -> Table:
    best = max((standing.fastest for standing in contest.standings), default=0)
    columns = (
        "variant",
        "ranked / cells",
        "fastest in",
        "tied first in",
        f"speed-up over {baseline}",
        SPAN,
        "best TFLOP/s",
    )
    mode = "" if contest.mode == "hot" else f" · {contest.mode}"
    able = [standing for standing in contest.standings if standing.unsupported < standing.cells]
    return Table(
        f"{contest.device_name} · {contest.mask} · {contest.direction}{mode}",
        columns,
        tuple(_standing_row(standing, best, baseline) for standing in able),
        (contest.verdict, *_unable(len(contest.standings) - len(able)), noise_note),
    )


def _unable(count: int) -> list[str]:
    """Return a list with a note on the `count` variants that support none of the cells, or [] if `count` is 0."""
    variants = "1 more variant supports" if count == 1 else f"{count} more variants support"
    return [f'{variants} none of these cells; the report gives reasons under "Cells without a time".'] if count else []


def _standing_row(standing: Standing, best: int, baseline: str | None) -> tuple[TableCell, ...]:
    is_baseline = standing.variant == baseline
    speedup = "" if standing.speedup is None else f"{standing.speedup:.2f}x{' (baseline)' if is_baseline else ''}"
    known = standing.speedup_low is not None and not is_baseline
    span = f"{standing.speedup_low:.2f}x to {standing.speedup_high:.2f}x" if known else ""
    wrong = f", {standing.incorrect} {STATUS_TEXT['incorrect']}" if standing.incorrect else ""
    leads = best > 0 and standing.fastest == best
    return row(
        TableCell(standing.variant, best=leads),
        f"{standing.ranked} / {standing.cells}{wrong}",
        TableCell(str(standing.fastest), best=leads),
        standing.tied,
        speedup,
        span,
        "" if standing.tflops is None else f"{standing.tflops:.3g}",
    )


def _latency_table(line: Series, noise_notes: tuple[str, ...] = ()) -> Table:
    """Return the latency table of one series."""
    variants = sorted(line.frame["variant"].unique())
    shapes: dict[tuple[int, int, str], dict[str, Any]] = {}
    for cell in line.frame.loc[~line.frame["control"], LATENCY_COLUMNS].to_dict("records"):
        shapes.setdefault((cell["length"], cell["batch"], cell["workload_id"]), {})[cell["variant"]] = cell
    rows = []
    for _, cells in sorted(shapes.items()):
        first = next(iter(cells.values()))
        length = str(first["seq_q"]) if first["seq_q"] == first["seq_k"] else f"{first['seq_q']} x {first['seq_k']}"
        leaders = _leaders(cells)
        rows.append(row(length, first["batch"], *(_latency_cell(cells.get(name), leaders) for name in variants)))
    notes = (LATENCY_NOTE, *noise_notes)
    return Table(f"{line.device_name}: {line.title}", ("sequence", "batch", *variants), tuple(rows), notes)


def _leaders(cells: dict[str, dict[str, Any]]) -> set[str]:
    """Return the variants in first place on a shape, or an empty set if fewer than two variants have a time to rank."""
    ok = [cell for cell in cells.values() if cell["status"] == "ok" and NOT_RANKED.isdisjoint(cell["flags"])]
    return {cell["variant"] for cell in ok if cell["leads"]} if len(ok) > 1 else set()


def _latency_cell(cell: dict[str, Any] | None, leaders: set[str]) -> TableCell:
    if cell is None:
        return TableCell("")
    if cell["status"] != "ok":
        return TableCell(STATUS_TEXT.get(cell["status"], cell["status"]))
    text = _with_interval(cell["latency_ms"], cell["latency_low_ms"], cell["latency_high_ms"])
    if SUSPECT in cell["flags"]:
        return TableCell(f"{text} (suspect)")
    text += f" ({DISTURBED})" if DISTURBED in cell["flags"] else ""
    leads = cell["variant"] in leaders
    return TableCell(text, best=leads and len(leaders) == 1, tied=leads and len(leaders) > 1)


def _with_interval(median: float, low: float, high: float) -> str:
    """Return a median and its interval as text, such as `0.201 ± 0.003` or `0.201 (-0.003, +0.2)`."""
    down, up = f"{median - low:.1g}", f"{high - median:.1g}"
    return f"{latency_text(median)} {f'± {up}' if down == up else f'(-{down}, +{up})'}"


def _some(names: pd.Series) -> str:
    listed = sorted(set(names))
    left = len(listed) - MAX_LISTED_WORKLOADS
    return ", ".join(listed[:MAX_LISTED_WORKLOADS]) + (f" and {left} more" if left > 0 else "")


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
