"""Paired comparison of two variants, which shows which one is faster and how certain this is.

Every variant is measured in several processes, one after the other. The processes of all variants take turns in rounds,
so drift of the machine affects all of them alike, and their times are compared round by round. Every ratio is the
candidate's time divided by the baseline's time, so a ratio above 1 means that the candidate is slower.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TypeVar

from attnbench.stats.disturbance import DISTURBED
from attnbench.stats.noise_floor import NoiseFloor

Key = TypeVar("Key")

SAME_MARGIN = 0.01  # the verdict is `same` if the ratio's whole interval lies within 1 +- this margin
FLOOR_FACTOR = 3.0  # a change between runs counts only if it exceeds this many times the noise floor
CLEAR = 0.001  # a comparison is clear if it would still have its verdict with this probability of an error
MAX_HALF_WIDTH = math.log(100.0)  # an interval of a log-ratio with a larger half-width is not reported

FASTER, SLOWER, SAME, UNDECIDED = "faster", "slower", "same", "undecided"


@dataclass(frozen=True)
class Blocks:
    """The samples of one cell, in the order of its blocks.

    - `samples_ns`: the samples of all blocks, in ns
    - `sizes`: the number of samples in each block
    - `rounds`: the round in which each block was measured; rounds are numbered across all processes of the cell
    - `processes`: the number of the process that measured each block; empty if one process measured all of them
    - `disturbed`: 1 for each block in which others had the cores, and 0 for each other block; empty if there is none
    """

    samples_ns: Sequence[float]
    sizes: Sequence[int]
    rounds: Sequence[int]
    processes: Sequence[int] = ()
    disturbed: Sequence[int] = ()

    def medians(self) -> dict[int, dict[int, float]]:
        """Return the median of each round's samples in ns, keyed by process and round.

        All blocks of a round are pooled. Disturbed blocks are left out, because they are no evidence.
        """
        edges = [0, *itertools.accumulate(self.sizes)]
        none = (0,) * len(self.sizes)
        blocks = zip(
            itertools.pairwise(edges), self.processes or none, self.rounds, self.disturbed or none, strict=True
        )
        gathered: dict[int, dict[int, list[float]]] = {}
        for (start, end), process, number, disturbed in blocks:
            if not disturbed:
                gathered.setdefault(process, {}).setdefault(number, []).extend(self.samples_ns[start:end])
        return {
            process: {number: median(samples) for number, samples in rounds.items() if samples}
            for process, rounds in gathered.items()
        }


@dataclass(frozen=True)
class PairedResult:
    """The ratio of two variants' times, with its confidence interval and verdict.

    - `low`, `high`: the ends of the interval; both are None if they are more than a factor of 100 away from `ratio`
    - `q_value`: the p-value, corrected for the number of rows in the table
    - `verdict`: `faster`, `slower`, `same` or `undecided`
    - `processes`: the number of pairs of processes that were compared
    - `reason`: why there is no verdict although both variants were measured: DISTURBED, or None
    """

    ratio: float
    low: float | None
    high: float | None
    q_value: float
    verdict: str
    processes: int
    reason: str | None = None

    @classmethod
    def without_verdict(cls, ratio: float) -> PairedResult:
        """Return the result for two cells of which others disturbed one so much that their ratio is no evidence."""
        return cls(ratio, None, None, 1.0, UNDECIDED, 0, DISTURBED)


def process_ratios(candidate: Blocks, baseline: Blocks) -> dict[int, float]:
    """Return log(candidate / baseline) for each pair of processes that took turns, keyed by the processes' number.

    The two processes of a pair have the same number. The value of a pair is the median over the rounds that both
    processes measured undisturbed. A pair without such a round is left out.
    """
    candidate_medians, baseline_medians = candidate.medians(), baseline.medians()
    ratios = {}
    for process in sorted(candidate_medians.keys() & baseline_medians.keys()):
        times, reference = candidate_medians[process], baseline_medians[process]
        shared = times.keys() & reference.keys()
        if shared:
            ratios[process] = median(math.log(times[number] / reference[number]) for number in shared)
    return ratios


def verdicts(
    table: Mapping[Key, Sequence[float]],
    floor: NoiseFloor | None,
    *,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
) -> dict[Key, PairedResult]:
    """Judge each row of a table of log-ratios, and return the results under the same keys as the rows.

    A row has one log-ratio for each pair of processes, such as the values that `process_ratios` returns. The interval
    of its mean is Student's t interval with the standard error that `floor` gives. Each interval has the given
    confidence.

    The verdict is `same` if the whole interval lies within 1 +- `margin`. Otherwise it is `faster` or `slower` if the
    row's q-value is at most 1 - `confidence`, which limits the share of false ones among these verdicts to
    1 - `confidence` (the false discovery rate; Benjamini and Hochberg, 1995, doi:10.1111/j.2517-6161.1995.tb02031.x).
    All other rows are `undecided`, as are all rows if `floor` is None.
    """
    estimates = [_Estimate.of_row(row, floor) for row in table.values()]
    return dict(zip(table, _judge(estimates, 1 - confidence, margin), strict=True))


def is_clear(row: Sequence[float], floor: NoiseFloor | None, *, margin: float = SAME_MARGIN) -> bool:
    """Return whether a row of log-ratios needs no further processes, because it has a verdict at an error of 0.1%.

    Looking at a row again and again, and measuring until it has a verdict, would make false verdicts more frequent. At
    so small an error in all looks but the last, they hardly become more frequent (Haybittle, 1971,
    doi:10.1259/0007-1285-44-526-793; Peto et al., 1976, doi:10.1038/bjc.1976.220).
    """
    estimate = _Estimate.of_row(row, floor)
    return estimate.p_value <= CLEAR or abs(estimate.mean) + estimate.half_width(CLEAR) <= math.log1p(margin)


def verdicts_between_runs(
    table: Mapping[Key, tuple[Blocks, Blocks]],
    controls: Sequence[float] = (),
    *,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
) -> dict[Key, PairedResult]:
    """Judge pairs (new, old) of cells from two runs, and return the results under the same keys as the pairs.

    This works like `verdicts`, but the runs share no rounds, so the processes of both sides are compared as two
    independent groups. `controls` are log-ratios of two processes that run the same code, from either run.

    Temperature and other processes may differ between the two runs, and nothing within a run shows this. Therefore
    compare each result with both runs' noise floors, as `is_regression` does.
    """
    pairs = [(_log_medians(new), _log_medians(old)) for new, old in table.values()]
    # A control is the difference of two processes, so its variance is twice that of a single process.
    halves = [control / math.sqrt(2) for control in controls]
    floor = NoiseFloor.of((side for pair in pairs for side in pair), halves)
    estimates = [_Estimate.of_row(new, floor).minus(_Estimate.of_row(old, floor)) for new, old in pairs]
    return dict(zip(table, _judge(estimates, 1 - confidence, margin), strict=True))


def is_regression(result: PairedResult, bar: float, *noise_floors: float | None) -> bool:
    """Return whether the whole interval shows a slow-down above `bar` and above 3 times each run's noise floor.

    A `bar` of 0.03 means 3%. A run's noise floor is the typical difference between two of its processes, such as 0.01.
    """
    floors = [FLOOR_FACTOR * floor for floor in noise_floors if floor is not None]
    return result.verdict == SLOWER and result.low is not None and result.low > 1 + max(bar, *floors, 0.0)


def behind_the_fastest(
    rows: Mapping[Key, Sequence[float]], floor: NoiseFloor | None, *, confidence: float = 0.95
) -> set[Key]:
    """Return the keys of the variants that are slower than the fastest variant of their workload.

    `rows` holds the log-ratios of each other variant to the fastest one. All rows together are wrong with a probability
    of at most 1 - `confidence`: each is tested at this error divided by the number of rows (multiple comparisons with
    the best, Hsu, 1981, doi:10.1214/aos/1176345582, with Bonferroni's in place of Dunnett's bound). The test is
    two-sided, because the fastest variant was chosen by the same times.
    """
    estimates = {key: _Estimate.of_row(row, floor) for key, row in rows.items()}
    level = (1 - confidence) / max(1, len(rows))
    return {key for key, estimate in estimates.items() if estimate.mean > 0 and estimate.p_value <= level}


@dataclass(frozen=True)
class _Estimate:
    """A mean log-ratio, its standard error, the error's degrees of freedom, and the number of pairs of processes."""

    mean: float
    error: float
    degrees: float
    processes: int

    @classmethod
    def of_row(cls, row: Sequence[float], floor: NoiseFloor | None) -> _Estimate:
        mean = fmean(row) if row else 0.0
        if floor is None or not row:
            return cls(mean, math.inf, 1.0, len(row))
        return cls(mean, *floor.of_mean(row), len(row))

    def minus(self, other: _Estimate) -> _Estimate:
        """Return the estimate of the difference of two independent means, with Welch's degrees of freedom."""
        squares = self.error**2, other.error**2
        spread = squares[0] ** 2 / self.degrees + squares[1] ** 2 / other.degrees
        degrees = sum(squares) ** 2 / spread if 0 < spread < math.inf else 1.0
        error = math.sqrt(sum(squares))
        return _Estimate(self.mean - other.mean, error, degrees, min(self.processes, other.processes))

    @property
    def p_value(self) -> float:
        """The two-sided p-value of a mean of 0."""
        if math.isinf(self.error):
            return 1.0
        if not self.error:
            return 0.0 if self.mean else 1.0
        from scipy.special import stdtr  # imported here because it is slow to import, and most commands don't need it

        return 2 * float(stdtr(self.degrees, -abs(self.mean) / self.error))

    def half_width(self, level: float) -> float:
        """Return half the width of the interval with confidence 1 - `level`."""
        if not self.error or math.isinf(self.error):
            return self.error
        from scipy.special import stdtrit  # see above

        return -float(stdtrit(self.degrees, level / 2)) * self.error


def _log_medians(blocks: Blocks) -> list[float]:
    """Return the logarithm of the median time of each process."""
    return [math.log(median(rounds.values())) for rounds in blocks.medians().values() if rounds]


def _judge(estimates: Sequence[_Estimate], alpha: float, margin: float) -> list[PairedResult]:
    if not estimates:
        return []
    from scipy.stats import false_discovery_control  # imported here because it is slow to import

    q_values = map(float, false_discovery_control([estimate.p_value for estimate in estimates]))
    return [_result(*pair, alpha, margin) for pair in zip(estimates, q_values, strict=True)]


def _result(estimate: _Estimate, q_value: float, alpha: float, margin: float) -> PairedResult:
    half = estimate.half_width(alpha)
    known = half <= MAX_HALF_WIDTH
    low, high = (math.exp(estimate.mean - half), math.exp(estimate.mean + half)) if known else (None, None)
    if low is not None and high is not None and low >= 1 - margin and high <= 1 + margin:
        verdict = SAME
    elif q_value <= alpha:
        verdict = SLOWER if estimate.mean > 0 else FASTER
    else:
        verdict = UNDECIDED
    return PairedResult(math.exp(estimate.mean), low, high, q_value, verdict, estimate.processes)
