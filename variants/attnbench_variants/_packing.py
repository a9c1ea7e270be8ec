"""Sequences of different lengths, packed end to end without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench import Workload


@dataclass(frozen=True)
class Packing:
    """Where each sequence (or document) of a batch is located after all of them are packed end to end.

    For N sequences, `query_starts` and `key_starts` are (N + 1,) int32: the start of each sequence, followed by the
    total length. `longest_query` is the largest number of queries in any sequence, and `longest_key` the largest number
    of keys. `key_index` holds the indices of the keys that are not padding, counted over the whole batch; it is None if
    no key is padding.
    """

    query_starts: torch.Tensor
    key_starts: torch.Tensor
    longest_query: int
    longest_key: int
    key_index: torch.Tensor | None

    def pack(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pack (B, S, H, X) tensors into (total, H, X) tensors.

        If some keys are padding, the packed keys and values are copies that omit the padding.
        """
        query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
        if self.key_index is None:
            return query, key, value
        return query, key.index_select(0, self.key_index), value.index_select(0, self.key_index)


def packing(workload: Workload, device: torch.device) -> Packing:
    """Return how the workload's sequences are packed; padded keys are left out.

    Under a document mask, each document is packed as a separate sequence.
    """
    w = workload
    if w.mask.kind == "document":
        lengths = [length for sequence in range(w.batch) for length in w.document_lengths(sequence)]
        starts = _starts(lengths, device)
        return Packing(starts, starts, max(lengths), max(lengths), None)
    index = None
    if w.mask.kind == "padding":
        rows = (torch.arange(length) + number * w.seq_k for number, length in enumerate(w.key_lengths))
        index = torch.cat(list(rows)).to(device)
    queries = _starts([w.seq_q] * w.batch, device)
    return Packing(queries, _starts(w.key_lengths, device), w.seq_q, max(w.key_lengths), index)


def _starts(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
