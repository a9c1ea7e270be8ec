"""Who is fastest where, with ties left as ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from attnbench.analysis.load_runs import PROBLEM, current, rankable
from attnbench.analysis.verdict import LEADS, with_leaders
from attnbench.workloads.workload import AXES

Key = tuple[str, str, str, str]
GROUP = ["device_name", "mask", "direction", "mode"]


@dataclass(frozen=True)
class Standing:
    """One variant's place among the others of a device, mask, direction and mode."""

    variant: str
    cells: int  # all that were tried, whatever came of them
    unsupported: int
    ranked: int  # correct and timed
    fastest: int  # shapes in which every other variant is told to be slower
    tied: int  # shapes in which it shares the first place with others that are not told to be slower
    speedup: float | None  # geometric mean over the baseline, on the shapes that both did
    speedup_low: float | None  # smallest of them
    speedup_high: float | None  # largest of them
    tflops: float | None  # highest of them


@dataclass(frozen=True)
class Group:
    """The contest of one device, mask, direction and mode."""

    device_name: str
    mask: str
    direction: str
    mode: str
    shapes: int  # in which at least two variants could be ranked
    undecided: int  # of these, the ones whose first place is shared
    standings: tuple[Standing, ...]  # best first
    finding: str  # the outcome in words

    @property
    def contest(self) -> str:
        """Say mask, direction and mode in words."""
        mask = "no mask" if self.mask == "none" else self.mask
        return f"{mask}, {self.direction}{'' if self.mode == 'hot' else f', {self.mode}'}"

    @property
    def verdict(self) -> str:
        """Say where, and the outcome."""
        return f"On {self.device_name}, {self.contest}: {self.finding}"


def winners(frame: pd.DataFrame) -> pd.DataFrame:
    """Give one row a problem: `fastest`, its latency and interval, `tied` (all first places), `next` and `margin`.

    A variant shares the first place where it is not told to be slower than the fastest (`with_leaders`). `margin` is
    the latency of the first one that does not over that of the fastest (NaN where all tie or none other ran);
    `contenders` counts the ranked variants.
    """
    ranked = rankable(current(with_leaders(frame))).sort_values("latency_ms", kind="stable")
    first = ranked.drop_duplicates(PROBLEM).set_index(PROBLEM)
    tied = ranked[ranked[LEADS]].groupby(PROBLEM)["variant"].agg(_names)
    behind = ranked[~ranked[LEADS]].drop_duplicates(PROBLEM).set_index(PROBLEM)
    table = first[[*AXES, "latency_ms", "latency_low_ms", "latency_high_ms", "tflops", "workload"]].assign(
        fastest=first["variant"],
        contenders=ranked.groupby(PROBLEM)["variant"].nunique(),
        tied=tied,
        next=behind["variant"],
        margin=behind["latency_ms"] / first["latency_ms"],
    )
    return table.reset_index()


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _names(variants: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(variants)))


def groups(frame: pd.DataFrame, baseline: str | None) -> list[Group]:
    """Rank the variants of each device, mask, direction and mode; `frame` carries `speedup` over `baseline`."""
    latest = current(frame)
    latest = latest[~latest["control"]]
    won = dict(iter(winners(frame).groupby(GROUP)))
    found = []
    for key, cells in latest[latest["exact"]].groupby(GROUP, sort=True):
        contest = won.get(key)
        found.append(_group(cast("Key", key), cells, contest if contest is not None else pd.DataFrame(), baseline))
    return found


def _group(key: Key, cells: pd.DataFrame, contest: pd.DataFrame, baseline: str | None) -> Group:
    contest = contest[contest["contenders"] > 1] if len(contest) else contest
    ties = contest["tied"] if len(contest) else pd.Series(dtype=object)
    undecided = int((ties.map(len) > 1).sum())
    standings = [_standing(str(name), own, contest, baseline) for name, own in cells.groupby("variant")]
    standings.sort(key=lambda one: (-one.fastest, -one.tied, -(one.speedup or 0), one.variant))
    return Group(*key, len(contest), undecided, tuple(standings), _finding(standings, contest, undecided))


def _standing(variant: str, own: pd.DataFrame, contest: pd.DataFrame, baseline: str | None) -> Standing:
    timed = rankable(own)
    speedups = timed["speedup"].dropna() if variant != baseline else pd.Series(dtype=float)
    first = [names for names in contest.get("tied", ()) if variant in names]
    return Standing(
        variant=variant,
        cells=len(own),
        unsupported=int((own["status"] == "unsupported").sum()),
        ranked=len(timed),
        fastest=sum(len(names) == 1 for names in first),
        tied=sum(len(names) > 1 for names in first),
        speedup=float(np.exp(np.log(speedups).mean())) if len(speedups) else None,
        speedup_low=float(speedups.min()) if len(speedups) else None,
        speedup_high=float(speedups.max()) if len(speedups) else None,
        tflops=float(timed["tflops"].max()) if timed["tflops"].notna().any() else None,
    )


def _finding(standings: list[Standing], contest: pd.DataFrame, undecided: int) -> str:
    if not len(contest):
        return "fewer than two variants could be ranked on any shape."
    best = standings[0]
    shapes = f"{len(contest)} shape{'s' if len(contest) > 1 else ''}"
    if not best.fastest:
        leaders = sorted(one.variant for one in standings if one.tied == best.tied)
        own = contest[[set(leaders) <= set(names) for names in contest["tied"]]]
        return f"no clear winner in {shapes}; {_listed(leaders)} share the first place most often{_margin(own)}."
    own = contest[(contest["fastest"] == best.variant) & (contest["tied"].map(len) == 1)]
    rest = f"; {undecided} undecided" if undecided else ""
    return f"{best.variant} fastest in {best.fastest} of {shapes}{_margin(own)}{rest}."


def _margin(contest: pd.DataFrame) -> str:
    return f", median {contest['margin'].median():.2f}x the next" if contest["margin"].notna().any() else ""
