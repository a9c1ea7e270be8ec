"""Reproducible dropout: whether a weight is kept depends only on its position and a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_MULTIPLIER = 0xD256D193
_WEYL = 0x9E3779B9
_ROUNDS = 7  # the smallest number with which Philox-2x32 passes its authors' statistical tests
_WORD = 0xFFFFFFFF


def keep(probability: float, seed: int, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return which weights dropout keeps, as bool of the broadcast shape; each is dropped with `probability`.

    `rows` (int64, below 2^32) are the numbers of query rows, counted over all sequences and heads as
    (sequence * heads + head) * Sq + i; `columns` are the numbers of keys. The same position and seed have the same
    result in any tile.
    """
    return _philox(columns, rows, seed) >= round(probability * (_WORD + 1))


def _philox(first: torch.Tensor, second: torch.Tensor, seed: int) -> torch.Tensor:
    """Return a word of Philox-2x32 for each counter (Salmon et al., 2011, doi:10.1145/2063384.2063405, section 3.3)."""
    key = (seed ^ (seed >> 32)) & _WORD
    for _ in range(_ROUNDS):
        product = first * _MULTIPLIER  # wraps at 64 bits, which leaves both 32-bit halves correct
        first, second = ((product >> 32) & _WORD) ^ key ^ second, product & _WORD
        key = (key + _WEYL) & _WORD
    return first
