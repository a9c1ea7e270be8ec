"""Which variants need further processes, because the comparison with the baseline or the fastest is not clear yet."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from attnbench.stats.paired import is_clear

if TYPE_CHECKING:
    from attnbench.stats.noise_floor import NoiseFloor


def unclear_variants(
    rows: Mapping[str, Mapping[int, float]], baseline: str, floor: NoiseFloor | None, min_processes: int
) -> set[str]:
    """Return the variants whose comparison with the baseline or with the fastest variant is not clear yet.

    `rows` holds the log-ratios of each other variant to the baseline, keyed by the number of the process. A row with
    fewer than `min_processes` values is not clear, because it does not show how much its processes differ. If the
    result is not empty, it contains the baseline and the fastest variant too, because all others are compared with
    these.
    """
    fastest = min((name for name, row in rows.items() if row), key=lambda name: fmean(rows[name].values()), default="")
    if not fastest or fmean(rows[fastest].values()) > 0:
        fastest = baseline
    unclear = {name for name, row in rows.items() if not _is_clear(row, floor, min_processes)}
    if fastest != baseline:
        behind = {name: _difference(row, rows[fastest]) for name, row in rows.items() if name != fastest}
        unclear |= {name for name, row in behind.items() if not _is_clear(row, floor, min_processes)}
    return unclear | {baseline, fastest} if unclear else unclear


def _is_clear(row: Mapping[int, float], floor: NoiseFloor | None, min_processes: int) -> bool:
    return len(row) >= min_processes and is_clear(list(row.values()), floor)


def _difference(row: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {process: ratio - other[process] for process, ratio in row.items() if process in other}
