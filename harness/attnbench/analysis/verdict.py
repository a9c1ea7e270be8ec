"""Verdicts within a run: whether a variant is slower than another, which variants tie, and the noise floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from attnbench.analysis.digest import DISTURBED_BLOCKS
from attnbench.analysis.load_runs import PROBLEM
from attnbench.analysis.load_warnings import is_disturbed
from attnbench.record import NOT_INTERLEAVED
from attnbench.stats.disturbance import DISTURBED
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.paired import Blocks, PairedResult, behind_the_fastest, process_ratios, verdicts

CellKey = tuple[Any, ...]  # the values of PROBLEM's fields, followed by the variant
Place = tuple[str, str]  # a device name and a mode
Row = Mapping[Any, Any]
Ratios = dict[CellKey, list[float]]  # key: cell; value: one log-ratio for each pair of processes

# The fields that identify a table. All verdicts in a table are corrected together for multiple comparisons.
TABLE = ["device_name", "mask", "direction", "mode"]
BLOCKS = ["samples_ns", "cold_samples_ns", "block_sizes", "block_rounds", "block_processes", DISTURBED_BLOCKS]
ROW = [
    *PROBLEM, "variant", "mask", "direction", "run_id", "device", "flags", "latency_ms", "latency_low_ms",
    "latency_high_ms", *BLOCKS,
]  # fmt: skip


def control_ratios(current: pd.DataFrame) -> Ratios:
    """Return the log-ratio between the A/A control and its twin, for each problem that has one.

    Runs of earlier versions measured each variant in a single process, and the baseline in a second one, the control.
    Its twin is the ordinary cell of the same variant and problem in the same run.
    """
    timed = current[current["status"] == "ok"]
    key = ["run_id", "device", *PROBLEM, "variant"]
    columns = [*key, *BLOCKS]
    both = timed.loc[timed["control"], columns].merge(
        timed.loc[~timed["control"], columns], on=key, suffixes=("", "_twin")
    )
    return {
        (*_problem(row), row["variant"]): list(process_ratios(blocks_of(row), blocks_of(row, "_twin")).values())
        for row in both.to_dict("records")
    }


def baseline_ratios(ranked: pd.DataFrame, baseline: str | None) -> Ratios:
    """Return the log-ratios of each ranked cell to the baseline's cell on the same problem.

    Cells that were not interleaved with the baseline in one run are left out, and so are cells that others disturbed.
    """
    return _ratios(ranked, _by_problem(ranked[ranked["variant"] == baseline]))


def without_verdict(ranked: pd.DataFrame, baseline: str | None) -> dict[CellKey, PairedResult]:
    """Return a result without a verdict for each ranked cell if others disturbed the cell or the baseline's cell.

    Only cells that were interleaved with the baseline are included. The ratio is that of the two median latencies.
    """
    if not is_disturbed(ranked).any():
        return {}
    against = _by_problem(ranked[ranked["variant"] == baseline])
    found = {}
    for row in ranked[ROW].to_dict("records"):
        other = against.get(_problem(row))
        if other is not None and _are_disturbed(row, other) and _took_turns(row, other):
            ratio = row["latency_ms"] / other["latency_ms"]
            found[*_problem(row), row["variant"]] = PairedResult.without_verdict(ratio)
    return found


def noise_floors(ratios: Ratios, controls: Ratios) -> dict[Place, NoiseFloor]:
    """Return how much processes that run the same code differ, for each device name and mode."""
    rows: dict[Place, list[list[float]]] = {}
    of_controls: dict[Place, list[float]] = {}
    for cell, row in ratios.items():
        rows.setdefault(_place(cell), []).append(row)
    for cell, row in controls.items():
        of_controls.setdefault(_place(cell), []).extend(row)
    found = {place: NoiseFloor.of(rows.get(place, ()), of_controls.get(place, ())) for place in rows | of_controls}
    return {place: floor for place, floor in found.items() if floor is not None}


def compare_with_baseline(
    ranked: pd.DataFrame, ratios: Ratios, known_floors: Mapping[Place, NoiseFloor]
) -> dict[CellKey, PairedResult]:
    """Judge the log-ratios of each ranked cell to the baseline.

    The keys of the result are the values of PROBLEM's fields followed by the variant. Cells on a device and in a mode
    whose noise floor is unknown are left out.
    """
    tables: dict[CellKey, Ratios] = {}
    for row in ranked[[*PROBLEM, "variant", "mask", "direction"]].to_dict("records"):
        cell = (*_problem(row), row["variant"])
        if cell in ratios and _place(cell) in known_floors:
            tables.setdefault(tuple(row[name] for name in TABLE), {})[cell] = ratios[cell]
    found: dict[CellKey, PairedResult] = {}
    for (device_name, _, _, mode), table in sorted(tables.items()):
        found |= verdicts(table, known_floors[device_name, mode])
    return found


def leaders(ranked: pd.DataFrame, known_floors: Mapping[Place, NoiseFloor]) -> pd.Series:
    """Return whether each ranked cell is in first place on its problem.

    A cell is in first place if it is the fastest or can't be shown to be slower than the fastest. If the two were
    interleaved with the baseline but not with each other, they are compared by their ratios to the baseline. A cell
    can't be paired with the fastest cell if the two are from different runs, if they were not interleaved, or if the
    noise floor on their device and in their mode is unknown. Such a cell is in first place if its interval overlaps
    that of the fastest cell.

    A cell that others disturbed too much can't be shown to be slower than any other cell, so it always ties for first
    place, and the fastest cell is chosen among the other cells.
    """
    leads = _undisturbed_leaders(ranked[~is_disturbed(ranked)], known_floors)
    return leads.reindex(ranked.index, fill_value=True)


def _undisturbed_leaders(ranked: pd.DataFrame, known_floors: Mapping[Place, NoiseFloor]) -> pd.Series:
    ranked = ranked.sort_values("latency_ms", kind="stable")
    fastest = _by_problem(ranked.drop_duplicates(PROBLEM))
    most_rounds = ranked.assign(rounds=ranked["block_rounds"].map(len)).sort_values("rounds", kind="stable")
    contests: dict[CellKey, Ratios] = {}
    for key, ratios in _ratios(ranked, fastest, between=_by_problem(most_rounds)).items():
        if _place(key) in known_floors:
            contests.setdefault(key[:-1], {})[key] = ratios
    paired = {key for contest in contests.values() for key in contest}
    behind: set[CellKey] = set()
    for problem, contest in contests.items():
        behind |= behind_the_fastest(contest, known_floors[_place(problem)])
    leads = []
    for cell in ranked[ROW].to_dict("records"):
        problem = _problem(cell)
        key = (*problem, cell["variant"])
        overlaps = cell["latency_low_ms"] <= fastest[problem]["latency_high_ms"]
        leads.append(key not in behind if key in paired else bool(overlaps))
    return pd.Series(leads, ranked.index, dtype=bool)


def noise_text(floor: float | None) -> str:
    """Return a note to print below a table, which states the noise floor."""
    if floor is None:
        return "The noise floor is unknown, because no variant ran undisturbed in several processes."
    return f"Noise floor: two processes that run the same code typically differ by {floor:.1%}."


def blocks_of(cell: Any, suffix: str = "") -> Blocks:
    """Return a cell's samples, grouped into blocks. If the cell has no blocks, each sample becomes a block.

    `suffix` is the ending of the column names to read, such as `_twin` in `samples_ns_twin`.
    """
    samples = cell[f"samples_ns{suffix}"] or cell[f"cold_samples_ns{suffix}"]
    sizes = cell[f"block_sizes{suffix}"]
    if not sizes:
        return Blocks(samples, (1,) * len(samples), tuple(range(len(samples))))
    return Blocks(
        samples,
        sizes,
        cell[f"block_rounds{suffix}"],
        cell[f"block_processes{suffix}"],
        cell[f"{DISTURBED_BLOCKS}{suffix}"],
    )


def _ratios(
    ranked: pd.DataFrame, against: Mapping[CellKey, Row], between: Mapping[CellKey, Row] | None = None
) -> Ratios:
    """Return the log-ratios of each cell to the cell in `against` for the same problem.

    If the two cells share no round, each is compared with the cell in `between`, if it was interleaved with both. Cells
    are left out if there is no such cell.
    """
    found: Ratios = {}
    for row in ranked[ROW].to_dict("records"):
        problem = _problem(row)
        other = against.get(problem)
        if other is not None and (ratios := _log_ratios(row, other, (between or {}).get(problem))):
            found[*problem, row["variant"]] = ratios
    return found


def _log_ratios(row: Row, other: Row, between: Row | None) -> list[float]:
    """Return the log of a cell's time divided by that of another cell, for each pair of processes.

    The list is empty if the cells can't be compared.
    """
    if not _comparable(row, other):
        return []
    ratios = process_ratios(blocks_of(row), blocks_of(other))
    if ratios or between is None or not _comparable(row, between) or not _comparable(other, between):
        return list(ratios.values())
    of_row, of_other = (process_ratios(blocks_of(cell), blocks_of(between)) for cell in (row, other))
    return [ratio - of_other[process] for process, ratio in of_row.items() if process in of_other]


def _comparable(row: Row, other: Row) -> bool:
    return _took_turns(row, other) and not _are_disturbed(row, other)


def _are_disturbed(row: Row, other: Row) -> bool:
    return any(DISTURBED in cell["flags"] for cell in (row, other))


def _took_turns(row: Row, other: Row) -> bool:
    one_run = (row["run_id"], row["device"]) == (other["run_id"], other["device"])
    in_blocks = all(cell["block_sizes"] and NOT_INTERLEAVED not in cell["flags"] for cell in (row, other))
    return one_run and in_blocks and bool(row["variant"] != other["variant"])


def _by_problem(cells: pd.DataFrame) -> dict[CellKey, Row]:
    return {_problem(row): row for row in cells[ROW].to_dict("records")}


def _problem(row: Row) -> CellKey:
    return tuple(row[name] for name in PROBLEM)


def _place(cell: CellKey) -> Place:
    """Return the device name and mode of a cell, or of a problem."""
    return cell[PROBLEM.index("device_name")], cell[PROBLEM.index("mode")]
