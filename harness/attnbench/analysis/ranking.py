"""Rankings: the fastest variants on each problem, and the standings for each device, mask, direction and mode.

Variants that can't be shown to be slower than the fastest variant tie for first place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from attnbench.analysis.load_runs import PROBLEM
from attnbench.analysis.load_warnings import is_disturbed, warnings_of
from attnbench.workloads.workload import AXES

if TYPE_CHECKING:
    from attnbench.analysis.results import Results

ContestKey = tuple[str, str, str, str]
CONTEST = ["device_name", "mask", "direction", "mode"]


@dataclass(frozen=True)
class Standing:
    """The results of one variant in a contest."""

    variant: str
    cells: int  # number of cells, whatever their status
    unsupported: int  # number of cells that the variant does not support
    incorrect: int  # number of cells in which the variant's output is wrong
    ranked: int  # number of cells that are correct and timed
    fastest: int  # number of shapes on which every other variant is slower
    tied: int  # number of shapes on which the variant ties for first place
    speedup: float | None  # over the baseline, which has 1: geometric mean over the shapes on which both ran
    speedup_low: float | None  # smallest speed-up on any shape
    speedup_high: float | None  # largest speed-up on any shape
    tflops: float | None  # highest rate on any shape, in TFLOP/s


@dataclass(frozen=True)
class Contest:
    """The ranking of the variants for one device, mask, direction and mode."""

    device_name: str
    mask: str
    direction: str
    mode: str
    shapes: int  # number of shapes on which at least two variants could be ranked
    undecided: int  # number of these shapes on which several variants tie for first place
    standings: tuple[Standing, ...]  # best first; variants without a ranked cell last, and wrong ones after all others
    finding: str  # a summary of the ranking in words

    @property
    def setting(self) -> str:
        """The mask, direction and mode in words."""
        mask = "no mask" if self.mask == "none" else self.mask
        return f"{mask}, {self.direction}{'' if self.mode == 'hot' else f', {self.mode}'}"

    @property
    def verdict(self) -> str:
        """The outcome as a sentence that names the device and the setting."""
        return f"On {self.device_name}, {self.setting}: {self.finding}"


def winners(ranked: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with one row per problem, which names the problem's fastest variants.

    `fastest` is the fastest variant, and the latency and its interval are those of this variant. `tied` lists the
    variants in first place: the fastest variant and all variants that can't be shown to be slower. `next` is the
    fastest variant that is not in first place, and `margin` is its latency divided by that of the fastest variant. Both
    are missing if all variants are in first place. `contenders` is the number of ranked variants, and `disturbed` says
    whether others disturbed one of them so much that the problem has no verdict.
    """
    ranked = ranked.assign(disturbed=is_disturbed(ranked))
    ranked = ranked.sort_values("latency_ms", kind="stable")
    first = ranked.drop_duplicates(PROBLEM).set_index(PROBLEM)
    tied = ranked[ranked["leads"]].groupby(PROBLEM)["variant"].agg(_names)
    behind = ranked[~ranked["leads"]].drop_duplicates(PROBLEM).set_index(PROBLEM)
    table = first[[*AXES, "latency_ms", "latency_low_ms", "latency_high_ms", "tflops", "workload"]].assign(
        fastest=first["variant"],
        contenders=ranked.groupby(PROBLEM)["variant"].nunique(),
        disturbed=ranked.groupby(PROBLEM)["disturbed"].any(),
        tied=tied,
        next=behind["variant"],
        margin=behind["latency_ms"] / first["latency_ms"],
    )
    return table.reset_index()


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _names(variants: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(variants)))


def contests(results: Results) -> list[Contest]:
    """Rank the variants for each device, mask, direction and mode."""
    cells = results.exact[~results.exact["control"]]
    cells = cells.assign(rankable=results.rankable.loc[cells.index])
    won = dict(iter(results.winners.groupby(CONTEST)))
    nothing = pd.DataFrame()
    return [
        _contest(cast("ContestKey", key), rows, won.get(key, nothing))
        for key, rows in cells.groupby(CONTEST, sort=True)
    ]


def _contest(key: ContestKey, cells: pd.DataFrame, won: pd.DataFrame) -> Contest:
    won = won[won["contenders"] > 1] if len(won) else won
    ties = won["tied"] if len(won) else pd.Series(dtype=object)
    undecided = int((ties.map(len) > 1).sum())
    standings = [_standing(str(name), rows, won) for name, rows in cells.groupby("variant")]
    standings.sort(key=_place)
    finding = _finding(standings, won, undecided)
    if len(won) and won["disturbed"].any():
        finding = _under_load(finding, cells, won)
    return Contest(*key, len(won), undecided, tuple(standings), finding)


def _place(row: Standing) -> tuple[object, ...]:
    """Return the sort key of a standing."""
    last = (row.ranked == 0, row.ranked == 0 and row.incorrect > 0)
    return (*last, -row.fastest, -row.tied, -(row.speedup or 0), row.variant)


def _standing(variant: str, cells: pd.DataFrame, won: pd.DataFrame) -> Standing:
    timed = cells[cells["rankable"]]
    speedups = timed["speedup"].dropna()
    first = [names for names in won.get("tied", ()) if variant in names]
    return Standing(
        variant=variant,
        cells=len(cells),
        unsupported=int((cells["status"] == "unsupported").sum()),
        incorrect=int((cells["status"] == "incorrect").sum()),
        ranked=len(timed),
        fastest=sum(len(names) == 1 for names in first),
        tied=sum(len(names) > 1 for names in first),
        speedup=float(np.exp(np.log(speedups).mean())) if len(speedups) else None,
        speedup_low=float(speedups.min()) if len(speedups) else None,
        speedup_high=float(speedups.max()) if len(speedups) else None,
        tflops=float(timed["tflops"].max()) if timed["tflops"].notna().any() else None,
    )


def _finding(standings: list[Standing], won: pd.DataFrame, undecided: int) -> str:
    if not len(won):
        return "fewer than two variants could be ranked on any shape."
    best = standings[0]
    shapes = f"{len(won)} shape{'s' if len(won) > 1 else ''}"
    if not best.fastest:
        leaders = sorted(row.variant for row in standings if row.tied == best.tied)
        shared = won[[set(leaders) <= set(names) for names in won["tied"]]]
        return f"no clear winner in {shapes}; {_listed(leaders)} tie for first place most often{_margin(shared)}."
    clear = won[(won["fastest"] == best.variant) & (won["tied"].map(len) == 1)]
    rest = f"; {undecided} undecided" if undecided else ""
    return f"{best.variant} fastest in {best.fastest} of {shapes}{_margin(clear)}{rest}."


def _under_load(finding: str, cells: pd.DataFrame, won: pd.DataFrame) -> str:
    """Return the finding of a contest in which others disturbed some of the shapes, or all of them."""
    warning = "; ".join(warnings_of(cells))
    return f"{warning}." if won["disturbed"].all() else f"{finding.removesuffix('.')}; {warning}."


def _margin(won: pd.DataFrame) -> str:
    return f", median {won['margin'].median():.2f}x the next" if won["margin"].notna().any() else ""
