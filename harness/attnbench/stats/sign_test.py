"""A sequential sign test, which can be continued until its evidence suffices, without losing its error rate."""

from __future__ import annotations

from statistics import fmean

# The test bets at even odds that a comparison is true. Each of these shares of the evidence is a strategy of its own:
# the larger one gains faster if nearly all comparisons are true, and the smaller one loses less if some are false.
BETS = (0.7, 0.9)


class SignTest:
    """A sequential test of whether comparisons are true more often than half of the time.

    If each comparison is true with a probability of at most 1/2, whatever the earlier ones were, then `evidence` is a
    supermartingale that starts at 1, so the probability that it ever reaches `1 / p` is at most `p` (Ville's
    inequality; Ramdas and others, 2023, doi:10.1214/23-STS894). This holds for any noise, however many comparisons are
    added, and whenever the caller decides to stop.

        test = SignTest()
        while test.evidence < 1e6:
            test.add(first() > second())
    """

    def __init__(self, comparisons: tuple[bool, ...] = ()) -> None:
        self._evidence = [1.0] * len(BETS)
        for true in comparisons:
            self.add(true)

    @property
    def evidence(self) -> float:
        """The evidence so far: 1 at the start, and the larger, the more comparisons were true."""
        return fmean(self._evidence)

    def add(self, true: bool) -> None:
        """Add the result of one comparison."""
        for index, bet in enumerate(BETS):
            self._evidence[index] *= 2 * bet if true else 2 * (1 - bet)
