"""Batch specs: batches of requests in the notation of vLLM's attention benchmarks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attnbench.errors import WorkloadError

FORMAT = "COUNTqQUERYsSEQUENCE, joined by '_', e.g. '2q2k_32q1s1k'"
SEGMENT = re.compile(r"(\d{1,18})?q(\d{1,18})(k)?(?:(?:s|kv)(\d{1,18})(k)?)?")


@dataclass(frozen=True)
class Requests:
    """A batch of requests of equal size.

    Each request has `seq_q` new tokens, which attend to `seq_k` tokens, including the new ones.
    """

    batch: int
    seq_q: int
    seq_k: int


def parse_batch_spec(text: str) -> tuple[Requests, ...]:
    """Parse a batch spec such as `2q2k_32q1s1k`: two prefills of 2048 tokens and 32 decodes over 1024 tokens.

    Each segment has the form COUNTqQUERYsSEQUENCE. COUNT defaults to 1, and SEQUENCE defaults to QUERY. A `k` after
    QUERY or SEQUENCE multiplies the number by 1024, and `kv` may be written instead of `s`. Raises WorkloadError if a
    segment is malformed, or if a query is empty or longer than its sequence.
    """
    return tuple(_parse_segment(segment, text) for segment in text.split("_"))


def _parse_segment(segment: str, text: str) -> Requests:
    match = SEGMENT.fullmatch(segment)
    if match is None:
        message = f"batch spec {text!r}: can't read {segment!r}: expected {FORMAT}"
        raise WorkloadError(message, field="batch_spec")
    count, query, query_k, sequence, sequence_k = match.groups()
    batch = int(count or 1)
    seq_q = int(query) * (1024 if query_k else 1)
    seq_k = seq_q if sequence is None else int(sequence) * (1024 if sequence_k else 1)
    if not 0 < seq_q <= seq_k or batch < 1:
        raise WorkloadError(
            f"batch spec {text!r}: {segment!r} is {batch} x {seq_q} new tokens in a sequence of {seq_k}: "
            "expected at least one request and one new token, and no more new tokens than the sequence has",
            field="batch_spec",
        )
    return Requests(batch, seq_q, seq_k)
