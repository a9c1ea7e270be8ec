"""The kernels of the backward pass with one program per tile of keys.

Each program loops over the query heads of a group and sums their contributions to the gradients of its keys and values.
"""

import triton
import triton.language as tl

from attnbench_variants.triton_flash.backward import gradient_of_scores
from attnbench_variants.triton_flash.ranges import keys_seen, phases, rows_seeing
from attnbench_variants.triton_flash.scores import dot, load_tile, rounded, tile_pointers


@triton.jit
def _add_to_rows(
    sums, gradients, key_tile, rows, seq_q, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, RAGGED: tl.constexpr
):
    """Add a tile's contribution to the gradients of the query rows; `gradients` is (BLOCK_N keys, BLOCK_M rows)."""
    columns = tl.arange(0, BLOCK_D)
    part = dot(tl.trans(gradients), key_tile)
    pointers = tile_pointers(sums, rows, columns, HEAD_DIM)
    # Only the sum matters, not the order of additions, so nothing has to wait for them.
    if RAGGED or BLOCK_D != HEAD_DIM:
        inside = (rows[:, None] < seq_q) & (columns[None, :] < HEAD_DIM)
        tl.atomic_add(pointers, part, mask=inside, sem="relaxed")
    else:
        tl.atomic_add(pointers, part, sem="relaxed")


@triton.jit
def _gather_from_rows(
    grad_key, grad_value, sums, key_tile, value_tile, query, grad_output, log_sum, row_dots, keys, begin, end,
    sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops,
    scale, softcap, slope, HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr, RAGGED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add the contributions of query rows `begin` to `end` to a tile's key and value gradients.

    The scores are transposed: (BLOCK_N keys, BLOCK_M rows). If `sums` is not None, the tile's contributions to the
    gradients of the rows are added there.
    """
    for first in range(begin, end, BLOCK_M):
        first = tl.multiple_of(first, BLOCK_M)  # noqa: PLW2901 - the same number with a hint for the compiler
        rows = first + tl.arange(0, BLOCK_M)
        # Rows past seq_q are loaded as zeros, and their log-sum-exp is infinite, so that their weights are 0.
        query_tile = load_tile(query, rows, tl.arange(0, BLOCK_D), seq_q, HEAD_DIM, BLOCK_D != HEAD_DIM, RAGGED)
        grad_tile = load_tile(
            grad_output, rows, tl.arange(0, BLOCK_DV), seq_q, HEAD_DIM_V, BLOCK_DV != HEAD_DIM_V, RAGGED
        )
        log_total = tl.load(log_sum + rows)
        row_dot = tl.load(row_dots + rows)
        seen = None
        if MASKED:
            start, stop = keys_seen(
                rows, sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops
            )
            seen = (keys[:, None] >= start[None, :]) & (keys[:, None] < stop[None, :])
        products = dot(key_tile, tl.trans(query_tile))
        weight_gradients = dot(value_tile, tl.trans(grad_tile))
        distance = tl.abs(rows[None, :] + (seq_k - seq_q) - keys[:, None])
        weights, gradients = gradient_of_scores(
            products, weight_gradients, log_total[None, :], row_dot[None, :], distance, seen, scale, softcap, slope,
            MASKED,
        )  # fmt: skip
        grad_value = dot(rounded(weights, grad_tile.dtype), grad_tile, grad_value)
        gradients = rounded(gradients, query_tile.dtype)
        grad_key = dot(gradients, query_tile, grad_key)
        if sums is not None:
            _add_to_rows(sums, gradients, key_tile, rows, seq_q, HEAD_DIM, BLOCK_D, RAGGED)
    return grad_key, grad_value


@triton.jit
def _gather_from_group(
    grad_key, grad_value, sums, key_tile, value_tile, query, grad_output, log_sum, row_dots, keys, begin, end, kv_head,
    sequence, heads, seq_q, padded, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops,
    scale, softcap, slopes, HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr, GROUP: tl.constexpr, RAGGED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add the contributions of query rows `begin` to `end` of all query heads that share the key head.

    If the group has one member, the compiler removes the loop, and the kernel needs fewer registers.
    """
    for member in range(GROUP):
        head = kv_head * GROUP + member
        slope = None
        if slopes is not None:
            slope = tl.load(slopes + head % heads)
        member_sums = None
        if sums is not None:
            member_sums = sums + head.to(tl.int64) * seq_q * HEAD_DIM
        grad_key, grad_value = _gather_from_rows(
            grad_key, grad_value, member_sums, key_tile, value_tile, query + head.to(tl.int64) * seq_q * HEAD_DIM,
            grad_output + head.to(tl.int64) * seq_q * HEAD_DIM_V, log_sum + head.to(tl.int64) * padded,
            row_dots + head.to(tl.int64) * padded, keys, begin, end, sequence, seq_q, seq_k, offset, left, right,
            prefix, key_lengths, document_starts, document_stops, scale, softcap, slope,
            HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_M, RAGGED, MASKED,
        )  # fmt: skip
    return grad_key, grad_value


@triton.jit
def _gradients_of_keys(
    query, key, value, grad_output, log_sum, row_dots, grad_key, grad_value, sums,
    key_lengths, document_starts, document_stops, slopes,
    heads, kv_heads, seq_q, padded, seq_k, offset, left, right, prefix, scale, softcap,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    GROUP: tl.constexpr, RAGGED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write `grad_key` (B, Hkv, Sk, D) and `grad_value` (B, Hkv, Sk, Dv), and add to `sums` if it is not None.

    Each program computes the gradients of BLOCK_N keys and values, and reads BLOCK_M query rows per step. RAGGED may be
    False only if seq_q is a multiple of BLOCK_M. The first program of each head computes the head's first tile of
    keys, which takes longest under a causal mask because most rows see it.
    """
    tiles = tl.cdiv(seq_k, BLOCK_N)
    kv_head = tl.program_id(0) // tiles  # the index over all sequences: sequence * kv_heads + key head
    sequence = kv_head // kv_heads
    first_key = tl.program_id(0) % tiles * BLOCK_N
    keys = first_key + tl.arange(0, BLOCK_N)
    limit = seq_k
    if key_lengths is not None:
        limit = tl.minimum(seq_k, tl.load(key_lengths + sequence))
    key += kv_head.to(tl.int64) * seq_k * HEAD_DIM
    value += kv_head.to(tl.int64) * seq_k * HEAD_DIM_V
    width = tl.arange(0, BLOCK_D)
    width_v = tl.arange(0, BLOCK_DV)
    key_tile = load_tile(key, keys, width, limit, HEAD_DIM, BLOCK_D != HEAD_DIM, True)
    value_tile = load_tile(value, keys, width_v, limit, HEAD_DIM_V, BLOCK_DV != HEAD_DIM_V, True)

    last_key = tl.maximum(tl.minimum(first_key + BLOCK_N, limit) - 1, 0)
    first_start, first_stop = rows_seeing(
        tl.minimum(first_key, last_key), sequence, seq_q, seq_k, offset, left, right, prefix,
        document_starts, document_stops,
    )  # fmt: skip
    last_start, last_stop = rows_seeing(
        last_key, sequence, seq_q, seq_k, offset, left, right, prefix, document_starts, document_stops
    )
    begin, full_begin, full_end, end = phases(first_start, last_start, first_stop, last_stop, BLOCK_M)
    end = tl.where(first_key < limit, end, 0)
    full_end = tl.minimum(full_end, tl.cdiv(end, BLOCK_M) * BLOCK_M)
    if left is None and document_starts is None:
        full_end = tl.maximum(full_begin, end)  # the last tile needs no mask, because rows past seq_q have weight 0

    grad_key_sum = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    grad_value_sum = tl.zeros([BLOCK_N, BLOCK_DV], tl.float32)
    if right is not None or document_starts is not None:
        grad_key_sum, grad_value_sum = _gather_from_group(
            grad_key_sum, grad_value_sum, sums, key_tile, value_tile, query, grad_output, log_sum, row_dots, keys,
            begin, tl.minimum(full_begin, end), kv_head, sequence, heads, seq_q, padded, seq_k, offset, left, right,
            prefix, key_lengths, document_starts, document_stops, scale, softcap, slopes,
            HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_M, GROUP, RAGGED, True,
        )  # fmt: skip
    grad_key_sum, grad_value_sum = _gather_from_group(
        grad_key_sum, grad_value_sum, sums, key_tile, value_tile, query, grad_output, log_sum, row_dots, keys,
        full_begin, full_end, kv_head, sequence, heads, seq_q, padded, seq_k, offset, left, right,
        prefix, key_lengths, document_starts, document_stops, scale, softcap, slopes,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_M, GROUP, RAGGED, False,
    )  # fmt: skip
    if left is not None or document_starts is not None:
        grad_key_sum, grad_value_sum = _gather_from_group(
            grad_key_sum, grad_value_sum, sums, key_tile, value_tile, query, grad_output, log_sum, row_dots, keys,
            tl.maximum(full_begin, full_end), end, kv_head, sequence, heads, seq_q, padded, seq_k, offset, left, right,
            prefix, key_lengths, document_starts, document_stops, scale, softcap, slopes,
            HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_M, GROUP, RAGGED, True,
        )  # fmt: skip

    counts = keys[:, None] < limit  # False for padded keys, whose gradient is 0
    grad_key += kv_head.to(tl.int64) * seq_k * HEAD_DIM
    grad_value += kv_head.to(tl.int64) * seq_k * HEAD_DIM_V
    tl.store(
        tile_pointers(grad_key, keys, width, HEAD_DIM),
        rounded(tl.where(counts, grad_key_sum * scale, 0.0), grad_key.dtype.element_ty),
        mask=(keys[:, None] < seq_k) & (width[None, :] < HEAD_DIM),
    )
    tl.store(
        tile_pointers(grad_value, keys, width_v, HEAD_DIM_V),
        rounded(tl.where(counts, grad_value_sum, 0.0), grad_value.dtype.element_ty),
        mask=(keys[:, None] < seq_k) & (width_v[None, :] < HEAD_DIM_V),
    )


@triton.jit
def grad_key_value_kernel(
    query, key, value, grad_output, log_sum, row_dots, grad_key, grad_value,
    key_lengths, document_starts, document_stops, slopes,
    heads, kv_heads, seq_q, padded, seq_k, offset, left, right, prefix, scale, softcap,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    GROUP: tl.constexpr, RAGGED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write `grad_key` (B, Hkv, Sk, D) and `grad_value` (B, Hkv, Sk, Dv)."""
    _gradients_of_keys(
        query, key, value, grad_output, log_sum, row_dots, grad_key, grad_value, None,
        key_lengths, document_starts, document_stops, slopes,
        heads, kv_heads, seq_q, padded, seq_k, offset, left, right, prefix, scale, softcap,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, GROUP, RAGGED, BLOCK_M, BLOCK_N,
    )  # fmt: skip


@triton.jit
def gradients_kernel(
    query, key, value, grad_output, log_sum, row_dots, grad_key, grad_value, sums,
    key_lengths, document_starts, document_stops, slopes,
    heads, kv_heads, seq_q, padded, seq_k, offset, left, right, prefix, scale, softcap,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    GROUP: tl.constexpr, RAGGED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write `grad_key` and `grad_value`, and add the gradient of query, divided by `scale`, to `sums`.

    `sums` is (B, Hq, Sq, D) float32. The additions are atomic, because many programs add to the same row.
    """
    _gradients_of_keys(
        query, key, value, grad_output, log_sum, row_dots, grad_key, grad_value, sums,
        key_lengths, document_starts, document_stops, slopes,
        heads, kv_heads, seq_q, padded, seq_k, offset, left, right, prefix, scale, softcap,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, GROUP, RAGGED, BLOCK_M, BLOCK_N,
    )  # fmt: skip
