"""Masks, expressed as a range of visible keys for each row, `start <= key < stop`, and a range of rows for each key.

Under every mask in attnbench, a query sees one contiguous range of keys, and neither end of the range moves left from
one row to the next. The ranges of the first and the last row in a tile of queries are therefore enough to classify the
tiles of keys: a tile that no row sees is skipped, a tile that every row sees is computed without a mask, and any other
tile is computed with a mask. The backward pass for the keys classifies the tiles of rows in the same way. A parameter
that a mask does not use is None, and Triton leaves out the code for this parameter when it compiles the kernel.
"""

import triton
import triton.language as tl


@triton.jit
def keys_seen(row, sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops):
    """Return the start and stop of the range of keys that `row` sees; `row` is an index or a vector of indices."""
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
    """Return the start and stop of the range of rows that see `key`, the index of a key that is not padding."""
    start = key * 0
    stop = key * 0 + seq_q
    if right is not None:
        start = tl.maximum(key - offset - right, 0)
        if prefix is not None:
            start = tl.where(key < prefix, 0, start)
    if left is not None:
        stop = tl.minimum(key - offset + left + 1, seq_q)
    if document_starts is not None:  # in packed documents, row i and key i are at the same position
        start = tl.load(document_starts + sequence * seq_k + key)
        stop = tl.load(document_stops + sequence * seq_k + key)
    return start, stop


@triton.jit
def phases(first_start, last_start, first_stop, last_stop, BLOCK: tl.constexpr):
    """Split the columns that some row of a tile sees into those before, in and after the part that every row sees.

    The arguments are the ranges of the first and the last row in the tile. Returns (begin, full_begin, full_end, end).
    Columns in [begin, full_begin) and [full_end, end) need a mask; those in [full_begin, full_end) do not. All results
    except `end` are multiples of BLOCK, and `full_begin` may be larger than `end`.
    """
    begin = first_start // BLOCK * BLOCK
    full_begin = tl.cdiv(last_start, BLOCK) * BLOCK
    full_end = tl.maximum(tl.maximum(first_stop, 0) // BLOCK * BLOCK, full_begin)
    return begin, full_begin, full_end, last_stop
