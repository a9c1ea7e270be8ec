"""Judge the times of audited calls: whether a variant keeps its answers, or works only when it is audited.

Each block has a pair of audited calls: one on inputs whose content has just changed, and a repeat on inputs that were
rewritten with the same content. Both are prepared by the same work, and a fair coin decides which of them comes first.
Hence a callable that does all its work at each call takes longer in the first one of these with a probability of at
most 1/2 in each pair, on any machine, beside any load. A sequential sign test turns this into a bound on false alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from attnbench.stats.sign_test import SignTest

# A claim is made only if its evidence reaches this number, which has a probability of at most 1 in 10 million if the
# variant does all its work at each call.
ENOUGH_EVIDENCE = 1e7
# In a second look, a claim is dropped if its evidence falls below this number.
TOO_LITTLE_EVIDENCE = 0.1
MAX_PAIRS = 300  # a second look ends after this many pairs, even if the evidence is still neither enough nor too little

# Calls on changed inputs count as slower than repeats only if they take this many times as long, and longer by so many
# ns. On a CPU, branches that depend on the values are predicted worse if the values are new, which costs less.
CACHED_RATIO, CACHED_EXTRA_NS = 1.25, 2_000.0
SLOWER_RATIO, SLOWER_EXTRA_NS = 1.1, 1_000.0
# Audited calls count as slower than plain ones only if they take this many times as long, and longer by so many ns.
# They read tensors that were just written, and may find a cold cache or sleeping threads.
AUDITED_RATIO, AUDITED_EXTRA_NS = 3.0, 50_000.0


@dataclass(frozen=True)
class AuditTimes:
    """The times of one block in ns: of the call on changed inputs, of the repeat, and of most of the plain calls.

    `usual_ns` is a time that 90% of the block's plain calls did not exceed.
    """

    fresh_ns: float
    repeat_ns: float
    usual_ns: float


@dataclass(frozen=True)
class Claim:
    """A claim about a variant that the times of its calls may prove.

    - `holds`: whether the times of one block speak for the claim
    - `certain`: whether no honest variant can give such times; if not, the times are only suspect
    - `text`: what the times show, as a format string for the median times in us: `fresh`, `repeat`, `audited` (the
      faster one of fresh and repeat) and `usual`
    """

    holds: Callable[[AuditTimes], bool]
    certain: bool
    text: str


@dataclass(frozen=True)
class Finding:
    """What the times of audited calls prove. If `certain` is false, an honest explanation is possible."""

    text: str
    certain: bool


_KEPT = (
    "calls on changed inputs took {fresh:.1f} us, but repeats on unchanged inputs {repeat:.1f} us "
    "(medians of {pairs} pairs); a callable must do all its work at each call"
)
# The claims, in the order of their severity.
CLAIMS = (
    Claim(
        lambda block: block.fresh_ns > CACHED_RATIO * block.repeat_ns + CACHED_EXTRA_NS,
        certain=True,
        text=f"cached output: {_KEPT}",
    ),
    Claim(
        lambda block: block.fresh_ns > SLOWER_RATIO * block.repeat_ns + SLOWER_EXTRA_NS,
        certain=False,
        text=f"cached output? {_KEPT}. To check, read the variant for values that it keeps from one call to the next",
    ),
    Claim(
        lambda block: min(block.fresh_ns, block.repeat_ns) > AUDITED_RATIO * block.usual_ns + AUDITED_EXTRA_NS,
        certain=False,
        text=(
            "work in audited calls only? Audited calls took {audited:.1f} us, but 90% of the others at most "
            "{usual:.1f} us (medians of {pairs} pairs). To check, read the variant for conditions that skip its work, "
            "and measure it again with --mode cold: an honest variant is slowed down there by cold caches too"
        ),
    ),
)


def doubts(blocks: Sequence[AuditTimes]) -> list[Claim]:
    """Return the claims that the times of a cell's blocks speak for, which is a reason to take a second look."""
    return [claim for claim in CLAIMS if SignTest(tuple(map(claim.holds, blocks))).evidence > 1]


def second_look(claims: Sequence[Claim], next_block: Callable[[], AuditTimes]) -> Finding | None:
    """Time further blocks until each claim is proven or dropped, and return the most severe claim that is proven.

    The blocks that gave rise to the claims are not counted again. `next_block` times one more block.
    """
    tests = {claim: SignTest() for claim in claims}
    blocks: list[AuditTimes] = []
    while len(blocks) < MAX_PAIRS and any(_is_open(test) for test in tests.values()):
        blocks.append(next_block())
        for claim, test in tests.items():
            if _is_open(test):
                test.add(claim.holds(blocks[-1]))
    proven = next((claim for claim, test in tests.items() if test.evidence >= ENOUGH_EVIDENCE), None)
    return None if proven is None else Finding(_text(proven, blocks), proven.certain)


def _is_open(test: SignTest) -> bool:
    return TOO_LITTLE_EVIDENCE < test.evidence < ENOUGH_EVIDENCE


def _text(claim: Claim, blocks: Sequence[AuditTimes]) -> str:
    return claim.text.format(
        fresh=median(block.fresh_ns for block in blocks) / 1e3,
        repeat=median(block.repeat_ns for block in blocks) / 1e3,
        audited=median(min(block.fresh_ns, block.repeat_ns) for block in blocks) / 1e3,
        usual=median(block.usual_ns for block in blocks) / 1e3,
        pairs=len(blocks),
    )
