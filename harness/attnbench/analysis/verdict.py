"""Which variant is faster, round by round: verdicts within a run, and who shares the first place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.load_runs import PROBLEM, baseline_of, current, rankable
from attnbench.analysis.noise import Ratios, blocks_of, control_ratios
from attnbench.record import NOT_INTERLEAVED
from attnbench.stats.paired import SLOWER, PairedResult, floor_of, paired_log_ratios, verdicts

if TYPE_CHECKING:
    from attnbench.stats.noise_floor import NoiseFloor

LEADS = "leads"
TABLE = ["device_name", "mask", "direction", "mode"]  # verdicts of one table are corrected together
ROW = [
    *PROBLEM, "variant", "mask", "direction", "run_id", "device", "flags", "latency_low_ms", "latency_high_ms",
    "samples_ns", "cold_samples_ns", "block_sizes", "block_rounds",
]  # fmt: skip
Cell = tuple[Any, ...]  # PROBLEM's fields and the variant
Row = Mapping[Any, Any]


def judge(frame: pd.DataFrame, baseline: str | None = None) -> dict[Cell, PairedResult]:
    """Compare each ranked cell with the baseline's on the same problem, by PROBLEM's fields and the variant.

    Cells are paired where they took turns in one run; those that did not are left out.
    """
    baseline = baseline or baseline_of(frame)
    latest = current(frame)
    ranked = rankable(latest)
    against = _by_problem(ranked[ranked["variant"] == baseline])
    return _judged(ranked, against, control_ratios(latest))


def with_leaders(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `leads`: whether a cell is its problem's fastest, or is not told to be slower than the fastest.

    Cells that took no turns with the fastest (another run, no interleaving, no A/A control) share the first place where
    their interval begins below the end of the fastest's. A frame that has the column is returned as it is.
    """
    if LEADS in frame:
        return frame
    latest = current(frame)
    ranked = rankable(latest).sort_values("latency_ms", kind="stable")
    fastest = _by_problem(ranked.drop_duplicates(PROBLEM))
    judged = _judged(ranked, fastest, control_ratios(latest))
    leads = {
        index: _leads(row, fastest[_problem(row)], judged.get((*_problem(row), row["variant"])))
        for index, row in zip(ranked.index, ranked[ROW].to_dict("records"), strict=True)
    }
    return frame.assign(leads=pd.Series([leads.get(index, False) for index in frame.index], frame.index, dtype=bool))


def floors(ratios: Ratios) -> dict[tuple[str, str], NoiseFloor]:
    """Give the noise floor that the A/A controls show, by device's name and mode."""
    name, kind = PROBLEM.index("device_name"), PROBLEM.index("mode")
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for problem, row in ratios.items():
        rows.setdefault((problem[name], problem[kind]), []).append(row)
    return {place: floor for place, own in rows.items() if (floor := floor_of(own)) is not None}


def _judged(ranked: pd.DataFrame, against: Mapping[Cell, Row], ratios: Ratios) -> dict[Cell, PairedResult]:
    """Compare rows with those that `against` has of their problems, table by table; None of a device without floor."""
    known = floors(ratios)
    blocks = {problem: blocks_of(row) for problem, row in against.items()}
    tables: dict[Cell, dict[Cell, list[float]]] = {}
    for row in ranked[ROW].to_dict("records"):
        problem = _problem(row)
        other = against.get(problem)
        if (row["device_name"], row["mode"]) in known and other is not None and _took_turns(row, other):
            table = tables.setdefault(tuple(row[name] for name in TABLE), {})
            table[(*problem, row["variant"])] = paired_log_ratios(blocks_of(row), blocks[problem])
    found: dict[Cell, PairedResult] = {}
    for (device_name, _, _, mode), table in sorted(tables.items()):
        found |= verdicts(table, floor=known[device_name, mode])
    return found


def _took_turns(row: Row, other: Row) -> bool:
    one_run = (row["run_id"], row["device"]) == (other["run_id"], other["device"])
    in_blocks = all(one["block_sizes"] and NOT_INTERLEAVED not in one["flags"] for one in (row, other))
    return one_run and in_blocks and bool(row["variant"] != other["variant"])


def _leads(row: Row, fastest: Row, judged: PairedResult | None) -> bool:
    if judged is None:
        return bool(row["latency_low_ms"] <= fastest["latency_high_ms"])
    return judged.verdict != SLOWER


def _by_problem(cells: pd.DataFrame) -> dict[Cell, Row]:
    return {_problem(row): row for row in cells[ROW].to_dict("records")}


def _problem(row: Row) -> Cell:
    return tuple(row[name] for name in PROBLEM)
