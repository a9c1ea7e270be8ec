"""Reproducible dropout: whether a weight is kept depends only on its position and the seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_MULTIPLIER = 0xD256D193
_WEYL = 0x9E3779B9
_ROUNDS = 7  # the fewest rounds with which Philox-2x32 passes its authors' statistical tests
_WORD = 0xFFFFFFFF


def keep(probability: float, seed: int, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return a bool tensor that is True for each weight that dropout keeps; `probability` is that of dropping one.

    The result has the shape to which `rows` and `columns` broadcast. `rows` (int64, below 2^32) are indices of query
    rows over all sequences and heads, (sequence * heads + head) * Sq + i; `columns` are indices of keys. The result for
    a position and a seed is the same in any tile.
    """
    return _philox(columns, rows, seed) >= round(probability * (_WORD + 1))


def _philox(first: torch.Tensor, second: torch.Tensor, seed: int) -> torch.Tensor:
    """Return 32 random bits for each counter, by Philox-2x32.

    Salmon et al., 2011, doi:10.1145/2063384.2063405, section 3.3.
    """
    key = (seed ^ (seed >> 32)) & _WORD
    for _ in range(_ROUNDS):
        product = first * _MULTIPLIER  # wraps at 64 bits, which leaves both 32-bit halves correct
        first, second = ((product >> 32) & _WORD) ^ key ^ second, product & _WORD
        key = (key + _WEYL) & _WORD
    return first
