"""Which variant is faster, round by round: verdicts within a run, and who shares the first place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.frame import PROBLEM, baseline_of, current, rankable
from attnbench.analysis.noise import Ratios, blocks_of, control_ratios
from attnbench.measure.pairing import SLOWER, Comparison, floor_of, paired_log_ratios, verdicts
from attnbench.record import NOT_INTERLEAVED

if TYPE_CHECKING:
    from attnbench.measure.floor import Floor

LEADS = "leads"
TABLE = ["device_name", "mask", "direction", "mode"]  # verdicts of one table are corrected together
Cell = tuple[Any, ...]  # PROBLEM's fields and the variant
Row = Mapping[Any, Any]


def judge(frame: pd.DataFrame, baseline: str | None = None) -> dict[Cell, Comparison]:
    """Compare each ranked cell with the baseline's on the same problem, by PROBLEM's fields and the variant.

    Cells are paired where they took turns in one run; those that did not are left out.
    """
    baseline = baseline or baseline_of(frame)
    latest = current(frame)
    ranked = rankable(latest)
    against = {_problem(row): row for row in ranked[ranked["variant"] == baseline].to_dict("records")}
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
    fastest = {_problem(row): row for row in ranked.drop_duplicates(PROBLEM).to_dict("records")}
    judged = _judged(ranked, fastest, control_ratios(latest))
    leads = {
        index: _leads(row, fastest[_problem(row)], judged.get((*_problem(row), row["variant"])))
        for index, row in zip(ranked.index, ranked.to_dict("records"), strict=True)
    }
    return frame.assign(leads=pd.Series([leads.get(index, False) for index in frame.index], frame.index, dtype=bool))


def floor_on(ratios: Ratios, device_name: str, mode: str) -> Floor | None:
    """Give the noise floor that a device's A/A controls show in a mode."""
    name, kind = PROBLEM.index("device_name"), PROBLEM.index("mode")
    return floor_of([row for key, row in ratios.items() if (key[name], key[kind]) == (device_name, mode)])


def _judged(ranked: pd.DataFrame, against: Mapping[Cell, Row], ratios: Ratios) -> dict[Cell, Comparison]:
    found: dict[Cell, Comparison] = {}
    for (device_name, _, _, mode), cells in ranked.groupby(TABLE, sort=True):
        floor = floor_on(ratios, str(device_name), str(mode))
        if floor is None:
            continue
        table = {}
        for row in cells.to_dict("records"):
            other = against.get(_problem(row))
            if other is not None and _took_turns(row, other):
                table[(*_problem(row), row["variant"])] = paired_log_ratios(blocks_of(row), blocks_of(other))
        found |= verdicts(table, floor=floor)
    return found


def _took_turns(row: Row, other: Row) -> bool:
    one_run = (row["run_id"], row["device"]) == (other["run_id"], other["device"])
    in_blocks = all(one["block_sizes"] and NOT_INTERLEAVED not in one["flags"] for one in (row, other))
    return one_run and in_blocks and bool(row["variant"] != other["variant"])


def _leads(row: Row, fastest: Row, judged: Comparison | None) -> bool:
    if judged is None:
        return bool(row["latency_low_ms"] <= fastest["latency_high_ms"])
    return judged.verdict != SLOWER


def _problem(row: Row) -> Cell:
    return tuple(row[name] for name in PROBLEM)
