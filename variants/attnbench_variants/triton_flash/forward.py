"""The forward pass: one program per tile of queries, which loops over the visible tiles of keys."""

import triton
import triton.language as tl

from attnbench_variants.triton_flash.ranges import keys_seen, phases
from attnbench_variants.triton_flash.scores import LOG2_E, capped_scores, dot, load_tile, rounded, tile_pointers


@triton.jit
def _keys_tile(
    source, first, limit, WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_N: tl.constexpr, CHECKED: tl.constexpr,
    AHEAD: tl.constexpr,
):  # fmt: skip
    """Load the rows `first` to `first + BLOCK_N` of the keys or values; those past `limit` are 0 (if CHECKED)."""
    if AHEAD:
        tile = source.load([first, 0])
    else:
        keys = first + tl.arange(0, BLOCK_N)
        tile = load_tile(source, keys, tl.arange(0, BLOCK_WIDTH), limit, WIDTH, BLOCK_WIDTH != WIDTH, CHECKED)
    return tile


@triton.jit
def _attend(
    weighted, total, peak, products, query, key, value, rows, start, stop, begin, end, limit, offset, scale, softcap,
    slope, HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_N: tl.constexpr, AHEAD: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add the keys from `begin` to `end` to the online softmax (Milakov & Gimelshein, 2018, arXiv:1805.02867).

    `weighted` (M, Dv) is the sum of the values weighted by exp2(score - peak), `total` (M) is the sum of these weights,
    and `peak` (M) is the highest score so far, in units of log2. Without softcap and ALiBi, the scale is applied in the
    argument of exp2, which saves a multiplication.

    If AHEAD, `products` holds the products of `query` with the first tile of keys, and each step starts to multiply the
    tile that follows before it computes its own softmax, so that Hopper's tensor cores work during the softmax. The
    function returns the products that follow the last tile, which belong to the next phase.
    """
    for first in range(begin, end, BLOCK_N):
        first = tl.multiple_of(first, BLOCK_N)  # noqa: PLW2901 - the same number with a hint for the compiler
        keys = first + tl.arange(0, BLOCK_N)
        if AHEAD:
            scores = products
            following = _keys_tile(key, first + BLOCK_N, limit, HEAD_DIM, BLOCK_D, BLOCK_N, True, AHEAD)
            products = dot(query, tl.trans(following))
        else:
            key_tile = _keys_tile(key, first, limit, HEAD_DIM, BLOCK_D, BLOCK_N, MASKED, AHEAD)
            scores = dot(query, tl.trans(key_tile))
        unit = scale * LOG2_E
        if softcap is not None or slope is not None:
            distance = tl.abs(rows[:, None] + offset - keys[None, :])
            scores, _ = capped_scores(scores, distance, scale, softcap, slope)
            unit = 1.0
        if MASKED:
            seen = (keys[None, :] >= start[:, None]) & (keys[None, :] < stop[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1) * unit)
        base = new_peak
        if MASKED:  # for a row without a visible key so far, -inf - -inf would be NaN
            base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        weights = tl.exp2(scores * unit - base[:, None])
        decay = tl.exp2(peak - base)
        total = total * decay + tl.sum(weights, 1)
        value_tile = _keys_tile(value, first, limit, HEAD_DIM_V, BLOCK_DV, BLOCK_N, MASKED, AHEAD)
        weighted = dot(rounded(weights, value_tile.dtype), value_tile, weighted * decay[:, None])
        peak = new_peak
    return weighted, total, peak, products


@triton.jit
def forward_kernel(
    query, key, value, output, log_sum, key_lengths, document_starts, document_stops, slopes,
    heads, kv_heads, seq_q, seq_k, offset, left, right, prefix, scale, softcap,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Write `output` (B, H, Sq, Dv) and `log_sum` (B, H, Sq), the log2 of the sum of exp(score).

    `log_sum` is +inf in a row that sees no key. Programs are numbered so that those of the same head run at about the
    same time and share its keys in the cache. The first program of each head computes the head's last tile of queries,
    because that tile takes longest under a causal mask and should not be the last to run. If AHEAD, keys and values are
    read through tensor descriptors, which Hopper's copy engine serves without addresses in registers.
    """
    tiles = tl.cdiv(seq_q, BLOCK_M)
    head = tl.program_id(0) // tiles  # the index over all sequences: sequence * heads + head
    sequence = head // heads
    kv_head = sequence * kv_heads + (head % heads) // (heads // kv_heads)
    first_row = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_M
    last_row = tl.minimum(first_row + BLOCK_M, seq_q) - 1
    rows = first_row + tl.arange(0, BLOCK_M)
    query += head.to(tl.int64) * seq_q * HEAD_DIM
    key += kv_head.to(tl.int64) * seq_k * HEAD_DIM
    value += kv_head.to(tl.int64) * seq_k * HEAD_DIM_V
    output += head.to(tl.int64) * seq_q * HEAD_DIM_V
    if AHEAD:
        key = tl.make_tensor_descriptor(key, [seq_k, HEAD_DIM], [HEAD_DIM, 1], [BLOCK_N, BLOCK_D])
        value = tl.make_tensor_descriptor(value, [seq_k, HEAD_DIM_V], [HEAD_DIM_V, 1], [BLOCK_N, BLOCK_DV])
    slope = None
    if slopes is not None:
        slope = tl.load(slopes + head % heads)

    query_tile = load_tile(query, rows, tl.arange(0, BLOCK_D), seq_q, HEAD_DIM, BLOCK_D != HEAD_DIM, True)
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
    weighted = tl.zeros([BLOCK_M, BLOCK_DV], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    alignment = seq_k - seq_q
    products = 0.0
    if AHEAD:
        products = dot(query_tile, tl.trans(_keys_tile(key, begin, seq_k, HEAD_DIM, BLOCK_D, BLOCK_N, True, AHEAD)))
    if left is not None or document_starts is not None:
        weighted, total, peak, products = _attend(
            weighted, total, peak, products, query_tile, key, value, rows, start, stop,
            begin, tl.minimum(full_begin, end), end, alignment, scale, softcap, slope,
            HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_N, AHEAD, True,
        )  # fmt: skip
    weighted, total, peak, products = _attend(
        weighted, total, peak, products, query_tile, key, value, rows, start, stop,
        full_begin, full_end, end, alignment, scale, softcap, slope,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_N, AHEAD, False,
    )  # fmt: skip
    weighted, total, peak, products = _attend(
        weighted, total, peak, products, query_tile, key, value, rows, start, stop,
        full_end, end, end, alignment, scale, softcap, slope,
        HEAD_DIM, HEAD_DIM_V, BLOCK_D, BLOCK_DV, BLOCK_N, AHEAD, True,
    )  # fmt: skip

    nothing = total == 0.0
    weighted = weighted / tl.where(nothing, 1.0, total)[:, None]
    log_total = tl.where(nothing, float("inf"), peak + tl.log2(tl.where(nothing, 1.0, total)))
    tl.store(log_sum + head.to(tl.int64) * seq_q + rows, log_total, mask=rows < seq_q)
    columns = tl.arange(0, BLOCK_DV)
    inside = (rows[:, None] < seq_q) & (columns[None, :] < HEAD_DIM_V)
    tl.store(tile_pointers(output, rows, columns, HEAD_DIM_V), rounded(weighted, output.dtype.element_ty), mask=inside)
