"""Blocks in which others had the device's cores, so that their times say little about the variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

# The entries of a block's `throttle` that mean that others had the cores, each with what happened and the remedy.
# Limits of power and temperature are not among them. They last for many blocks, so that all variants of a round are
# slowed down by them alike, or a variant that needs much power causes them itself.
CAUSES = {
    "foreign_load": ("other processes used the cores", "stop them and run again"),
    "steal": ("the hypervisor took the cores away", "run again while the host is less busy"),
    "quota": ("the container's CPU quota ran out", "raise the quota, or use fewer threads, and run again"),
}
# The flag of records, and the reason of comparisons, that have no verdict because others had the cores in most blocks.
DISTURBED = "disturbed"
# A cell is disturbed if more than this share of its blocks is. Then the undisturbed blocks are no fair sample.
DISTURBED_LIMIT = 0.5
UNLIKE_CORES = 0.5  # variants use different numbers of cores if the numbers differ by at least this


def causes(block: Mapping[str, Any]) -> list[str]:
    """Return the keys of CAUSES that apply to a block, given its telemetry."""
    found = block.get("throttle")
    return [cause for cause in CAUSES if cause in found] if isinstance(found, (list, tuple)) else []


def block_warning(variant: str, block: Mapping[str, Any]) -> str | None:
    """Return a sentence that says that others had the cores while a variant was timed, or None if they had not."""
    found = causes(block)
    return f"{CAUSES[found[0]][0]} while {variant} was timed; {CAUSES[found[0]][1]}" if found else None


def is_throttled(block: Mapping[str, Any]) -> bool:
    """Return whether limits, such as those of power or temperature, kept the clocks down during a block."""
    found = block.get("throttle")
    return isinstance(found, (list, tuple)) and any(cause not in tuple(CAUSES) for cause in found)


def exceeds_limit(disturbed: Sequence[bool] | Sequence[int]) -> bool:
    """Return whether so many of a cell's blocks were disturbed that the cell gets no verdict."""
    return sum(disturbed) > DISTURBED_LIMIT * len(disturbed)


@dataclass(frozen=True)
class CellLoad:
    """How much others disturbed the blocks of a cell.

    - `disturbed_share`: the share of the cell's blocks that were disturbed
    - `causes`: for each cause, the number of blocks to which it applied
    - `cores`: the mean number of cores for which the variant had threads ready to run; None if it is unknown
    """

    variant: str
    disturbed_share: float
    causes: Mapping[str, int]
    cores: float | None

    @classmethod
    def of(cls, variant: str, blocks: Sequence[Mapping[str, Any]]) -> CellLoad:
        """Return the load during a cell's blocks, given the telemetry of each block."""
        found = [causes(block) for block in blocks]
        counts = Counter(cause for block in found for cause in block)
        return cls(variant, sum(map(bool, found)) / max(1, len(found)), counts, _cores(blocks))

    @property
    def has_no_verdict(self) -> bool:
        """Whether so many blocks were disturbed that the cell gets no verdict."""
        return self.disturbed_share > DISTURBED_LIMIT


def load_warnings(cells: Iterable[CellLoad]) -> list[str]:
    """Return a sentence that says why cells have no verdict, and one on the variants that suffer most from load.

    The list is empty if no cell was disturbed too much.
    """
    cells = list(cells)
    without = [cell for cell in cells if cell.has_no_verdict]
    if not without:
        return []
    counts = sum((Counter(cell.causes) for cell in without), Counter[str]())
    what, remedy = CAUSES[counts.most_common(1)[0][0]]
    share = fmean(cell.disturbed_share for cell in without)
    which = "" if len(without) == len(cells) else f" for {len(without)} of {len(cells)} cells"
    return [f"no verdict{which}: {what} in {share:.0%} of the blocks; {remedy}", *_unlike_cores(cells)]


def _unlike_cores(cells: Iterable[CellLoad]) -> list[str]:
    """Return a sentence that names the variants which use the most and the fewest cores, if the numbers differ."""
    by_variant: dict[str, list[float]] = {}
    for cell in cells:
        if cell.cores is not None:
            by_variant.setdefault(cell.variant, []).append(cell.cores)
    used = sorted((fmean(cores), variant) for variant, cores in by_variant.items())
    if not used or used[-1][0] - used[0][0] < UNLIKE_CORES:
        return []
    (fewest, slightly), (most, severely) = used[0], used[-1]
    return [
        f"variants that use more cores suffer more from this: {severely} uses {most:.1f} cores, {slightly} {fewest:.1f}"
    ]


def _cores(blocks: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean number of threads that ran or waited for a core, which load from others does not change."""
    wanted = [
        sum(value for name in ("cores_used", "waited") if isinstance(value := block.get(name), (int, float)))
        for block in blocks
        if isinstance(block.get("cores_used"), (int, float))
    ]
    return fmean(wanted) if wanted else None
