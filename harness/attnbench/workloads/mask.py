"""Masks: the keys that each query sees."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attnbench.errors import WorkloadError, unknown

PLAIN_KINDS = ("none", "causal", "causal-top-left", "padding", "document")
FORMS = (*PLAIN_KINDS, "window:L:R", "prefix:N")


@dataclass(frozen=True)
class Mask:
    """A rule for the keys that each query sees; `str(mask)` and `Mask.parse` are inverse to each other.

    With i the row of a query, j the column of a key and o = seq_k - seq_q (bottom-right alignment), query i sees key j
    under

    - `none`: always
    - `causal`: j <= i + o
    - `causal-top-left`: j <= i
    - `window:L:R`: i + o - L <= j <= i + o + R, both ends included, as FlashAttention counts
    - `prefix:N`: j <= i + o or j < N
    - `padding`: j < the sequence's key length (seeded, see `Workload.key_lengths`)
    - `document`: i and j lie in the same packed document (seeded, see `Workload.document_lengths`)

    `left` and `right` are the sizes of a `window`, `prefix` that of a `prefix`; all are 0 for other masks.
    """

    kind: str = "none"
    left: int = 0
    right: int = 0
    prefix: int = 0

    def __post_init__(self) -> None:
        """Check the kind and the sizes; raises WorkloadError for an unknown kind or a negative size."""
        if self.kind not in (*PLAIN_KINDS, "window", "prefix"):
            raise WorkloadError(str(unknown("mask", self.kind, FORMS)), field="mask")
        if min(self.left, self.right, self.prefix) < 0:
            raise WorkloadError(f"mask {self}: sizes must be 0 or more", field="mask")

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Read a mask from its text, e.g. `causal` or `window:128:0`; raises WorkloadError for any other text."""
        if text in PLAIN_KINDS:
            return cls(text)
        if match := re.fullmatch(r"window:(\d+):(\d+)", text):
            return cls("window", left=int(match[1]), right=int(match[2]))
        if match := re.fullmatch(r"prefix:(\d+)", text):
            return cls("prefix", prefix=int(match[1]))
        raise WorkloadError(str(unknown("mask", text, FORMS)), field="mask")

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        if self.kind == "window":
            return f"window:{self.left}:{self.right}"
        if self.kind == "prefix":
            return f"prefix:{self.prefix}"
        return self.kind

    @property
    def is_causal(self) -> bool:
        """Whether the mask is exactly bottom-right aligned `causal`."""
        return self.kind == "causal"

    @property
    def is_seeded(self) -> bool:
        """Whether the mask depends on seeded per-sequence lengths."""
        return self.kind in ("padding", "document")
