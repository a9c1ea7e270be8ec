"""Dropout that can be redrawn: whether a weight is kept is a function of its place and a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_MULTIPLIER = 0xD256D193
_WEYL = 0x9E3779B9
_ROUNDS = 7  # the fewest with which Philox-2x32 passes its authors' statistical tests
_WORD = 0xFFFFFFFF


def keep(probability: float, seed: int, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Draw which weights survive dropout, each being dropped with `probability`; bool, of the broadcast shape.

    `rows` (int64, below 2^32) number the query rows of all sequences and heads, (sequence * heads + head) * Sq + i;
    `columns` are key columns. The same place and seed give the same answer, in whatever tile it is asked.
    """
    return _philox(columns, rows, seed) >= round(probability * (_WORD + 1))


def _philox(first: torch.Tensor, second: torch.Tensor, seed: int) -> torch.Tensor:
    """Give a word of Philox-2x32 for each counter (Salmon et al., 2011, doi:10.1145/2063384.2063405, section 3.3)."""
    key = (seed ^ (seed >> 32)) & _WORD
    for _ in range(_ROUNDS):
        product = first * _MULTIPLIER  # wraps at 64 bits; both 32-bit halves are right all the same
        first, second = ((product >> 32) & _WORD) ^ key ^ second, product & _WORD
        key = (key + _WEYL) & _WORD
    return first
