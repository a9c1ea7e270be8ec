"""The keys that each query row sees. Under every mask in attnbench, these keys form one contiguous range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench import Workload


@dataclass(frozen=True)
class Ranges:
    """The keys that each row of one sequence sees: row i sees key j if `low[i] <= j < high[i]`.

    `low` and `high` are (Sq,) int64 and never decrease with i. `low_list` and `high_list` hold the same values.
    The lists are used for planning on the host, and the tensors for masking on the device.
    """

    low_list: list[int]
    high_list: list[int]
    low: torch.Tensor
    high: torch.Tensor

    def hidden(self, rows: slice, keys: slice) -> torch.Tensor:
        """Return a (rows, keys) bool tensor that is True where the key is hidden from the row."""
        columns = torch.arange(keys.start, keys.stop, device=self.low.device)
        return (columns < self.low[rows, None]) | (columns >= self.high[rows, None])


def ranges(workload: Workload, device: torch.device) -> list[Ranges]:
    """Return a `Ranges` for each sequence of the batch, or only one if all sequences have the same ranges."""
    sequences = range(workload.batch if workload.mask.is_seeded else min(1, workload.batch))
    return [_ranges_of(workload, sequence, device) for sequence in sequences]


def hidden(workload: Workload, device: torch.device) -> torch.Tensor | None:
    """Return the dense mask, or None if every key is visible.

    The mask is (B or 1, 1, Sq, Sk) bool and is True for hidden keys.
    """
    if sees_everything(workload):
        return None
    everything = slice(0, workload.seq_q), slice(0, workload.seq_k)
    return torch.stack([each.hidden(*everything) for each in ranges(workload, device)])[:, None]


def sees_everything(workload: Workload) -> bool:
    """Return whether every query sees every key, as in a decode step under a causal mask."""
    return workload.visible_pairs == workload.batch * workload.seq_q * workload.seq_k


def simplest_kind(workload: Workload) -> str:
    """Return the mask's kind, or a simpler kind that hides the same keys.

    The result is `none` if every key is visible, and `causal` for a square `causal-top-left` mask.
    """
    if sees_everything(workload):
        return "none"
    if workload.mask.kind == "causal-top-left" and workload.seq_q == workload.seq_k:
        return "causal"
    return workload.mask.kind


def has_blank_rows(workload: Workload) -> bool:
    """Return whether some query sees no key at all; the output and the gradient of such a query are 0."""
    sequences = range(workload.batch if workload.mask.is_seeded else min(1, workload.batch))
    return any(len(keys) == 0 for sequence in sequences for keys in workload.visible_keys(sequence))


def distances(rows: slice, keys: slice, workload: Workload, device: torch.device) -> torch.Tensor:
    """Return ALiBi's distances |i + Sk - Sq - j| between queries i and keys j, (rows, keys) float32."""
    offset = workload.seq_k - workload.seq_q
    query_positions = torch.arange(rows.start + offset, rows.stop + offset, device=device, dtype=torch.float32)
    key_positions = torch.arange(keys.start, keys.stop, device=device, dtype=torch.float32)
    return (query_positions[:, None] - key_positions).abs_()


def _ranges_of(workload: Workload, sequence: int, device: torch.device) -> Ranges:
    visible = list(workload.visible_keys(sequence))
    low = [min(keys.start, workload.seq_k) for keys in visible]
    high = [max(keys.stop, start) for keys, start in zip(visible, low, strict=True)]
    return Ranges(low, high, *(torch.tensor(ends, dtype=torch.int64, device=device) for ends in (low, high)))
