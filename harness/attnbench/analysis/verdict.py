"""Verdicts within a run: whether a variant is slower than another, which variants tie, and the noise floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.load_runs import PROBLEM
from attnbench.record import NOT_INTERLEAVED
from attnbench.stats.paired import SLOWER, Blocks, ControlSummary, PairedResult, floor_of, paired_log_ratios, verdicts

if TYPE_CHECKING:
    from attnbench.stats.noise_floor import NoiseFloor


Ratios = dict[tuple[str, ...], list[float]]  # key: problem; value: the log-ratio of each round


def control_ratios(current: pd.DataFrame) -> Ratios:
    """Return the log-ratios between the A/A control and its twin, for each problem.

    A log-ratio is the log of the latency ratio of the two cells in one round. The twin of a control is the ordinary
    cell of the same variant and problem in the same run.
    """
    timed = current[current["status"] == "ok"]
    key = ["run_id", "device", *PROBLEM, "variant"]
    columns = [*key, "samples_ns", "cold_samples_ns", "block_sizes", "block_rounds"]
    both = timed.loc[timed["control"], columns].merge(
        timed.loc[~timed["control"], columns], on=key, suffixes=("", "_twin")
    )
    rows = both.to_dict("records")
    return {
        tuple(row[name] for name in PROBLEM): paired_log_ratios(blocks_of(row), blocks_of(row, "_twin")) for row in rows
    }


def noise_text(found: ControlSummary) -> str:
    """Return a note to print below a table, which states the noise floor and the number of false positives."""
    if found.noise_floor is None:
        return "No A/A control in these cells: the noise floor is unknown."
    pairs = f"{found.cells} pair{'s' if found.cells > 1 else ''}"
    return (
        f"A/A control: noise floor {found.noise_floor:.1%}; {found.false_positives} of {pairs} of identical code"
        " told apart."
    )


def blocks_of(cell: Any, suffix: str = "") -> Blocks:
    """Return a cell's samples, grouped into blocks. If the cell has no blocks, each sample becomes a block.

    `suffix` is the ending of the column names to read, such as `_twin` in `samples_ns_twin`.
    """
    samples = cell[f"samples_ns{suffix}"] or cell[f"cold_samples_ns{suffix}"]
    sizes = cell[f"block_sizes{suffix}"]
    if not sizes:
        return Blocks(samples, (1,) * len(samples), tuple(range(len(samples))))
    return Blocks(samples, sizes, cell[f"block_rounds{suffix}"])


# The fields that identify a table. All verdicts in a table are corrected together for multiple comparisons.
TABLE = ["device_name", "mask", "direction", "mode"]
ROW = [
    *PROBLEM, "variant", "mask", "direction", "run_id", "device", "flags", "latency_low_ms", "latency_high_ms",
    "samples_ns", "cold_samples_ns", "block_sizes", "block_rounds",
]  # fmt: skip
CellKey = tuple[Any, ...]  # the values of PROBLEM's fields, followed by the variant
Place = tuple[str, str]  # a device name and a mode
Row = Mapping[Any, Any]


def compare_with_baseline(
    ranked: pd.DataFrame, baseline: str | None, known_floors: Mapping[Place, NoiseFloor]
) -> dict[CellKey, PairedResult]:
    """Compare each ranked cell with the baseline's cell on the same problem.

    The keys of the result are the values of PROBLEM's fields followed by the variant. Cells are left out if they were
    not interleaved with the baseline in one run, or if their device and mode have no known noise floor.
    """
    return _compare(ranked, _by_problem(ranked[ranked["variant"] == baseline]), known_floors)


def leaders(ranked: pd.DataFrame, known_floors: Mapping[Place, NoiseFloor]) -> pd.Series:
    """Return whether each ranked cell is in first place on its problem.

    A cell is in first place if it is the fastest or can't be shown to be slower than the fastest. If the two were
    interleaved with the baseline but not with each other, they are compared by their ratios to the baseline. A cell
    can't be paired with the fastest cell if the two are from different runs, if they were not interleaved, or if there
    is no A/A control for their device and mode. Such a cell is in first place if its interval overlaps that of the
    fastest cell.
    """
    ranked = ranked.sort_values("latency_ms", kind="stable")
    fastest = _by_problem(ranked.drop_duplicates(PROBLEM))
    most_rounds = ranked.assign(rounds=ranked["block_rounds"].map(len)).sort_values("rounds", kind="stable")
    compared = _compare(ranked, fastest, known_floors, between=_by_problem(most_rounds))
    leads = [
        _leads(row, fastest[_problem(row)], compared.get((*_problem(row), row["variant"])))
        for row in ranked[ROW].to_dict("records")
    ]
    return pd.Series(leads, ranked.index, dtype=bool)


def floors(ratios: Ratios) -> dict[Place, NoiseFloor]:
    """Return the noise floors of the A/A controls, keyed by device name and mode."""
    name, mode = PROBLEM.index("device_name"), PROBLEM.index("mode")
    rows: dict[Place, list[list[float]]] = {}
    for problem, row in ratios.items():
        rows.setdefault((problem[name], problem[mode]), []).append(row)
    return {place: floor for place, found in rows.items() if (floor := floor_of(found)) is not None}


def _compare(
    ranked: pd.DataFrame,
    against: Mapping[CellKey, Row],
    known_floors: Mapping[Place, NoiseFloor],
    between: Mapping[CellKey, Row] | None = None,
) -> dict[CellKey, PairedResult]:
    """Compare each cell with the cell in `against` for the same problem.

    If the two cells share no round, each is compared with the cell in `between`, if it was interleaved with both. Cells
    are left out if there is no such cell, or if their device and mode have no known noise floor.
    """
    tables: dict[CellKey, dict[CellKey, list[float]]] = {}
    for row in ranked[ROW].to_dict("records"):
        problem = _problem(row)
        other = against.get(problem)
        if other is None or (row["device_name"], row["mode"]) not in known_floors:
            continue
        if ratios := _log_ratios(row, other, (between or {}).get(problem)):
            table = tables.setdefault(tuple(row[name] for name in TABLE), {})
            table[(*problem, row["variant"])] = ratios
    found: dict[CellKey, PairedResult] = {}
    for (device_name, _, _, mode), table in sorted(tables.items()):
        found |= verdicts(table, floor=known_floors[device_name, mode])
    return found


def _log_ratios(row: Row, other: Row, between: Row | None) -> list[float]:
    """Return log-ratios whose mean is the log of a cell's time divided by that of another cell.

    If the cells share no round, each ratio combines one round of each cell, in which it was timed together with the
    cell `between`. The list is empty if the cells can't be compared.
    """
    if not _measured_in_turns(row, other):
        return []
    ratios = paired_log_ratios(blocks_of(row), blocks_of(other))
    if ratios or between is None or not _measured_in_turns(row, between) or not _measured_in_turns(other, between):
        return ratios
    to_between = (paired_log_ratios(blocks_of(cell), blocks_of(between)) for cell in (row, other))
    return [ratio - other_ratio for ratio, other_ratio in zip(*to_between, strict=False)]


def _measured_in_turns(row: Row, other: Row) -> bool:
    one_run = (row["run_id"], row["device"]) == (other["run_id"], other["device"])
    in_blocks = all(cell["block_sizes"] and NOT_INTERLEAVED not in cell["flags"] for cell in (row, other))
    return one_run and in_blocks and bool(row["variant"] != other["variant"])


def _leads(row: Row, fastest: Row, comparison: PairedResult | None) -> bool:
    if comparison is None:
        return bool(row["latency_low_ms"] <= fastest["latency_high_ms"])
    return comparison.verdict != SLOWER


def _by_problem(cells: pd.DataFrame) -> dict[CellKey, Row]:
    return {_problem(row): row for row in cells[ROW].to_dict("records")}


def _problem(row: Row) -> CellKey:
    return tuple(row[name] for name in PROBLEM)
