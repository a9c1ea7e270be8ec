"""Every mask as a range of keys a row: `start <= key < stop`, and the other way round.

All of the harness's masks let a query see one contiguous range of keys, and neither end of it ever moves left from
one row to the next. So the ends for the first and the last row of a tile say which tiles of keys are seen by no row
(skipped), by every row (computed without a mask) or by some (computed with it); the backward pass over tiles of keys
asks the same of columns. What a mask does not have is None, which Triton resolves while compiling.
"""

import triton
import triton.language as tl


@triton.jit
def keys_seen(row, sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops):
    """Give the range of keys that each `row` of `sequence` sees; `row` is a number or a vector."""
    start = row * 0
    stop = row * 0 + seq_k
    if left is not None:
        start = tl.maximum(row + offset - left, 0)
    if right is not None:
        stop = tl.minimum(row + offset + right + 1, seq_k)
        if prefix is not None:
            stop = tl.maximum(stop, tl.minimum(prefix, seq_k))
    if key_lengths is not None:
        stop = tl.minimum(stop, tl.load(key_lengths + sequence))
    if document_starts is not None:
        position = sequence * seq_q + row
        start = tl.load(document_starts + position, mask=row < seq_q, other=0)
        stop = tl.load(document_stops + position, mask=row < seq_q, other=0)
    return start, stop


@triton.jit
def rows_seeing(key, sequence, seq_q, seq_k, offset, left, right, prefix, document_starts, document_stops):
    """Give the range of rows that see the number `key`, which must be one that counts in its sequence."""
    start = key * 0
    stop = key * 0 + seq_q
    if right is not None:
        start = tl.maximum(key - offset - right, 0)
        if prefix is not None:
            start = tl.where(key < prefix, 0, start)
    if left is not None:
        stop = tl.minimum(key - offset + left + 1, seq_q)
    if document_starts is not None:  # packed sequences attend to themselves: rows and keys are the same positions
        start = tl.load(document_starts + sequence * seq_k + key)
        stop = tl.load(document_stops + sequence * seq_k + key)
    return start, stop


@triton.jit
def phases(first_start, last_start, first_stop, last_stop, BLOCK: tl.constexpr):
    """Split the columns that a tile needs into those before, in and after the part that all of the tile needs.

    Takes the ranges of the tile's first and last member; returns (begin, full_begin, full_end, end): tiles of
    [begin, full_begin) and [full_end, end) need a mask, those of [full_begin, full_end) none. All but `end` are
    multiples of BLOCK, and `full_begin` may lie past `end`.
    """
    begin = first_start // BLOCK * BLOCK
    full_begin = tl.cdiv(last_start, BLOCK) * BLOCK
    full_end = tl.maximum(tl.maximum(first_stop, 0) // BLOCK * BLOCK, full_begin)
    return begin, full_begin, full_end, last_stop
