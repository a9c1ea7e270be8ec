"""Masks: their rules, their notation, and the keys that are visible to each query."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from attnbench.errors import WorkloadError, unknown

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload


PLAIN_KINDS = ("none", "causal", "causal-top-left", "padding", "document")
FORMS = (*PLAIN_KINDS, "window:L:R", "prefix:N")


@dataclass(frozen=True)
class Mask:
    """A rule that determines which keys are visible to each query.

    `Mask.parse` reads the notation that `str(mask)` returns. Key j is visible to query i under these conditions, where
    o = seq_k - seq_q aligns the mask to the bottom right:

    - `none`: always
    - `causal`: j <= i + o
    - `causal-top-left`: j <= i
    - `window:L:R`: i + o - L <= j <= i + o + R, both ends included, as in FlashAttention
    - `prefix:N`: j <= i + o or j < N
    - `padding`: j is less than the sequence's key length, which is seeded (see `Workload.key_lengths`)
    - `document`: i and j are in the same packed document; the lengths are seeded (see `Workload.document_lengths`)

    The fields `left` and `right` are the L and R of a `window` mask, and `prefix` is the N of a `prefix` mask. They are
    0 for all other masks.
    """

    kind: str = "none"
    left: int = 0
    right: int = 0
    prefix: int = 0

    def __post_init__(self) -> None:
        """Check the kind and the sizes. Raises WorkloadError if the kind is unknown or a size is negative."""
        if self.kind not in (*PLAIN_KINDS, "window", "prefix"):
            raise WorkloadError(str(unknown("mask", self.kind, FORMS)), field="mask")
        if min(self.left, self.right, self.prefix) < 0:
            raise WorkloadError(f"mask {self}: sizes must be 0 or more", field="mask")

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Parse a mask such as `causal` or `window:128:0`. Raises WorkloadError if the text is not a mask."""
        if text in PLAIN_KINDS:
            return cls(text)
        if match := re.fullmatch(r"window:(\d{1,18}):(\d{1,18})", text):
            return cls("window", left=int(match[1]), right=int(match[2]))
        if match := re.fullmatch(r"prefix:(\d{1,18})", text):
            return cls("prefix", prefix=int(match[1]))
        raise WorkloadError(str(unknown("mask", text, FORMS)), field="mask")

    def __str__(self) -> str:
        """Return the mask in the notation that `parse` reads."""
        if self.kind == "window":
            return f"window:{self.left}:{self.right}"
        if self.kind == "prefix":
            return f"prefix:{self.prefix}"
        return self.kind

    @property
    def is_causal(self) -> bool:
        """Whether the mask is `causal`, which is aligned to the bottom right."""
        return self.kind == "causal"

    @property
    def is_seeded(self) -> bool:
        """Whether the mask depends on seeded lengths, which differ between the sequences of a batch."""
        return self.kind in ("padding", "document")


def key_lengths(workload: Workload) -> tuple[int, ...]:
    """Return the number of valid keys of each sequence in the batch; see `Workload.key_lengths`."""
    if workload.mask.kind != "padding" or workload.seq_k == 0:
        return (workload.seq_k,) * workload.batch
    generator = random.Random(f"padding:{workload.batch}:{workload.seq_k}")  # noqa: S311 - the lengths must be reproducible, not secret
    shortest = max(1, workload.seq_k // 4)
    drawn = [generator.randint(shortest, workload.seq_k) for _ in range(workload.batch)]
    return (workload.seq_k, *drawn[1:])[: workload.batch]


def document_lengths(workload: Workload, sequence: int) -> tuple[int, ...]:
    """Return the lengths of the documents packed into one sequence; see `Workload.document_lengths`."""
    if workload.mask.kind != "document" or workload.seq_q == 0:
        return (workload.seq_q,)
    generator = random.Random(f"document:{workload.seq_q}:{sequence}")  # noqa: S311 - the lengths must be reproducible, not secret
    lengths: list[int] = []
    while (left := workload.seq_q - sum(lengths)) > 0:
        lengths.append(min(left, max(1, round(generator.expovariate(4 / workload.seq_q)))))
    return tuple(lengths)


def visible_keys(workload: Workload, sequence: int) -> Iterator[range]:
    """Yield the range of visible keys for each query of one sequence."""
    offset, end = workload.seq_k - workload.seq_q, workload.seq_k
    mask, rows = workload.mask, range(workload.seq_q)
    if mask.kind == "document":
        start = 0
        for length in document_lengths(workload, sequence):
            yield from (range(start, start + length) for _ in range(length))
            start += length
    elif mask.kind in ("none", "padding"):
        yield from (range(key_lengths(workload)[sequence]) for _ in rows)
    elif mask.kind == "causal-top-left":
        yield from (range(min(end, row + 1)) for row in rows)
    elif mask.kind == "window":
        for row in rows:
            yield range(max(0, row + offset - mask.left), min(end, row + offset + mask.right + 1))
    else:  # the mask is `causal` or `prefix`
        for row in rows:
            yield range(min(end, max(mask.prefix, row + offset + 1)))


@lru_cache(maxsize=4096)
def visible_counts(workload: Workload) -> tuple[int, int]:
    """Return the number of visible pairs and the number of keys that are visible to at least one query.

    Both numbers are for one head, summed over the batch.
    """
    if workload.mask.kind == "padding":
        valid = sum(key_lengths(workload))
        return workload.seq_q * valid, valid if workload.seq_q else 0
    if workload.mask.kind == "document":
        lengths = [length for sequence in range(workload.batch) for length in document_lengths(workload, sequence)]
        return sum(length * length for length in lengths), sum(lengths)
    pairs, seen = _counts_of_sequence(workload)
    return pairs * workload.batch, seen * workload.batch


def _counts_of_sequence(workload: Workload) -> tuple[int, int]:
    """Return the number of visible pairs and of visible keys of one sequence, for a mask without seeded lengths.

    Row i sees the keys from `start + i` to `stop + i`, where both ends are limited to the valid keys. The counts are
    therefore sums of arithmetic series, which take no longer for long sequences than for short ones.
    """
    rows, keys, mask = workload.seq_q, workload.seq_k, workload.mask
    offset, least = keys - rows, 0
    start = -rows - keys  # a value at which the start of every row is limited to 0
    if mask.kind == "none":
        stop = keys
    elif mask.kind == "causal-top-left":
        stop = 1
    elif mask.kind == "window":
        start, stop = offset - mask.left, offset + mask.right + 1
    else:  # the mask is `causal` or `prefix`
        stop, least = offset + 1, min(mask.prefix, keys)
    pairs = _sum_clamped(stop, rows, least, keys) - _sum_clamped(start, rows, 0, keys)
    if not pairs:
        return 0, 0
    first_row = 0 if least else max(0, 1 - stop)  # rows before this one see no key
    return pairs, min(keys, max(least, stop + rows - 1)) - max(0, start + first_row)


def _sum_clamped(first: int, count: int, low: int, high: int) -> int:
    """Return the sum of `count` consecutive integers from `first` on, each limited to the range from `low` to `high`.

    `low` must not exceed `high`.
    """
    below = min(count, max(0, low - first))
    above = min(count - below, max(0, first + count - 1 - high))
    between = count - below - above
    return below * low + above * high + between * (first + below) + between * (between - 1) // 2
