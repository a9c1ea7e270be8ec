"""The backward pass, which recomputes the weights from the scores and each row's log-sum-exp.

There are two ways to compute it (Dao, 2023, arXiv:2307.08691, section 3.1.2). Both start with
`row_statistics_kernel`, which computes the row sums of output * grad_output, and pads them and the log-sum-exps.

- Seven products of tiles in two passes: `grad_key_value_kernel` computes the gradients of key and value, with one
  program per tile of keys, and `grad_query_kernel` that of query, with one program per tile of queries. No kernel uses
  atomic additions, so all calls with the same inputs have identical results.
- Five products of tiles in one pass: `gradients_kernel` does what `grad_key_value_kernel` does, and also adds to the
  gradient of query. Its programs add in an order that changes, and with it the last bits of the sum.

The kernels with one program per tile of keys are in `backward_keys.py`.
"""

import triton
import triton.language as tl

from attnbench_variants.triton_flash.ranges import keys_seen, phases
from attnbench_variants.triton_flash.scores import LOG2_E, capped_scores, dot, load_tile, rounded, tile_pointers


@triton.jit
def row_statistics_kernel(
    output, grad_output, log_sum, padded_log_sum, row_dots, seq_q, padded, WIDTH: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Write `padded_log_sum` and `row_dots`, (B, H, padded) float32, from which the other kernels read whole tiles.

    `row_dots` is the sum of output * grad_output over each row, and `padded_log_sum` is a copy of `log_sum`. In the
    rows past seq_q, they are 0 and +inf, so that all weights of these rows are 0. `output` and `grad_output` are
    (B, H, Sq, Dv), and `padded` is seq_q rounded up to a multiple of the longest tile.
    """
    tiles = padded // BLOCK_M
    head = tl.program_id(0) // tiles
    rows = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_DV)
    output += head.to(tl.int64) * seq_q * WIDTH
    grad_output += head.to(tl.int64) * seq_q * WIDTH
    out_tile = load_tile(output, rows, columns, seq_q, WIDTH, BLOCK_DV != WIDTH, True).to(tl.float32)
    grad_tile = load_tile(grad_output, rows, columns, seq_q, WIDTH, BLOCK_DV != WIDTH, True).to(tl.float32)
    log_total = tl.load(log_sum + head.to(tl.int64) * seq_q + rows, mask=rows < seq_q, other=float("inf"))
    tl.store(padded_log_sum + head.to(tl.int64) * padded + rows, log_total)
    tl.store(row_dots + head.to(tl.int64) * padded + rows, tl.sum(out_tile * grad_tile, 1))


@triton.jit
def gradient_of_scores(
    products, weight_gradients, log_sum, row_dots, distance, seen, scale, softcap, slope, MASKED: tl.constexpr
):
    """Return the softmax weights and the gradient with respect to the scaled products of queries and keys.

    `log_sum` and `row_dots` have one value per row and are broadcast over the keys.
    """
    derivative = 1.0
    if softcap is not None or slope is not None:
        scores, derivative = capped_scores(products, distance, scale, softcap, slope)
    else:
        scores = products * (scale * LOG2_E)
    weights = tl.exp2(scores - log_sum)
    if MASKED:
        weights = tl.where(seen, weights, 0.0)
    return weights, weights * (weight_gradients - row_dots) * derivative


@triton.jit
def _gather_from_keys(
    grad_query, query_tile, grad_tile, log_total, row_dot, key, value, rows, start, stop, begin, end, limit, offset,
    scale, softcap, slope, HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr, BLOCK_N: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add the contributions of keys `begin` to `end` to the gradient of a query tile."""
    for first in range(begin, end, BLOCK_N):
        first = tl.multiple_of(first, BLOCK_N)  # noqa: PLW2901 - the same number with a hint for the compiler
        keys = first + tl.arange(0, BLOCK_N)
        key_tile = load_tile(key, keys, tl.arange(0, BLOCK_D), limit, HEAD_DIM, BLOCK_D != HEAD_DIM, MASKED)
        value_tile = load_tile(value, keys, tl.arange(0, BLOCK_DV), limit, HEAD_DIM_V, BLOCK_DV != HEAD_DIM_V, MASKED)
        products = dot(query_tile, tl.trans(key_tile))
        weight_gradients = dot(grad_tile, tl.trans(value_tile))
        distance = tl.abs(rows[:, None] + offset - keys[None, :])
        seen = (keys[None, :] >= start[:, None]) & (keys[None, :] < stop[:, None])
        _, gradients = gradient_of_scores(
            products, weight_gradients, log_total[:, None], row_dot[:, None], distance, seen, scale, softcap, slope,
            MASKED,
        )  # fmt: skip
        grad_query = dot(rounded(gradients, key_tile.dtype), key_tile, grad_query)
    return grad_query


@triton.jit
def grad_query_kernel(
    query, key, value, grad_output, log_sum, row_dots, grad_query,
    key_lengths, document_starts, document_stops, slopes,
    heads, kv_heads, seq_q, padded, seq_k, offset, left, right, prefix, scale, softcap,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write `grad_query` (B, H, Sq, D). Programs are numbered in the same order as in the forward pass."""
    tiles = tl.cdiv(seq_q, BLOCK_M)
    head = tl.program_id(0) // tiles
    sequence = head // heads
    kv_head = sequence * kv_heads + (head % heads) // (heads // kv_heads)
    first_row = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_M
    last_row = tl.minimum(first_row + BLOCK_M, seq_q) - 1
    rows = first_row + tl.arange(0, BLOCK_M)
    key += kv_head.to(tl.int64) * seq_k * HEAD_DIM
    value += kv_head.to(tl.int64) * seq_k * HEAD_DIM_V
    slope = None
    if slopes is not None:
        slope = tl.load(slopes + head % heads)
    width = tl.arange(0, BLOCK_D)
    query_tile = load_tile(
        query + head.to(tl.int64) * seq_q * HEAD_DIM, rows, width, seq_q, HEAD_DIM, BLOCK_D != HEAD_DIM, True
    )
    grad_tile = load_tile(
        grad_output + head.to(tl.int64) * seq_q * HEAD_DIM_V, rows, tl.arange(0, BLOCK_DV), seq_q, HEAD_DIM_V,
        BLOCK_DV != HEAD_DIM_V, True,
    )  # fmt: skip
    log_total = tl.load(log_sum + head.to(tl.int64) * padded + rows)
    row_dot = tl.load(row_dots + head.to(tl.int64) * padded + rows)
    start, stop = keys_seen(
        rows, sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops
    )
    first_start, first_stop = keys_seen(
        first_row, sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops
    )
    last_start, last_stop = keys_seen(
        last_row, sequence, seq_q, seq_k, offset, left, right, prefix, key_lengths, document_starts, document_stops
    )
    begin, full_begin, full_end, end = phases(first_start, last_start, first_stop, last_stop, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    alignment = seq_k - seq_q
    if left is not None or document_starts is not None:
        total = _gather_from_keys(
            total, query_tile, grad_tile, log_total, row_dot, key, value, rows, start, stop,
            begin, tl.minimum(full_begin, end), end, alignment, scale, softcap, slope,
            HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_N, True,
        )  # fmt: skip
    total = _gather_from_keys(
        total, query_tile, grad_tile, log_total, row_dot, key, value, rows, start, stop,
        full_begin, full_end, end, alignment, scale, softcap, slope,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_N, False,
    )  # fmt: skip
    total = _gather_from_keys(
        total, query_tile, grad_tile, log_total, row_dot, key, value, rows, start, stop,
        full_end, end, end, alignment, scale, softcap, slope,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_N, True,
    )  # fmt: skip
    grad_query += head.to(tl.int64) * seq_q * HEAD_DIM
    inside = (rows[:, None] < seq_q) & (width[None, :] < HEAD_DIM)
    tl.store(
        tile_pointers(grad_query, rows, width, HEAD_DIM),
        rounded(total * scale, grad_query.dtype.element_ty),
        mask=inside,
    )
