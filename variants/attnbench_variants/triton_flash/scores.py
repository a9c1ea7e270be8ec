"""Functions that load and multiply tiles and compute scores, in units of log2 so that softmax can use exp2."""

import triton
import triton.language as tl
from triton import knobs

INTERPRETED = tl.constexpr(knobs.runtime.interpret)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def tile_pointers(tensor, rows, columns, width):
    """Return pointers to a tile of a row-major matrix of `width` columns."""
    return tensor + rows[:, None] * width + columns[None, :]


@triton.jit
def load_tile(tensor, rows, columns, row_limit, WIDTH: tl.constexpr, PADDED: tl.constexpr, CHECKED: tl.constexpr):
    """Load a tile; elements past `row_limit` (if CHECKED) and past WIDTH (if PADDED) are 0."""
    pointers = tile_pointers(tensor, rows, columns, WIDTH)
    if CHECKED and PADDED:
        return tl.load(pointers, mask=(rows[:, None] < row_limit) & (columns[None, :] < WIDTH), other=0.0)
    if CHECKED:
        return tl.load(pointers, mask=rows[:, None] < row_limit, other=0.0)
    if PADDED:
        return tl.load(pointers, mask=columns[None, :] < WIDTH, other=0.0)
    return tl.load(pointers)


@triton.jit
def dot(left, right, addend=None):
    """Return left @ right + addend in float32, without TF32.

    Triton's interpreter can't multiply bfloat16 tiles, so both operands are converted to float32 there.
    """
    if INTERPRETED:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, addend, input_precision="ieee")


@triton.jit
def rounded(tile, dtype):
    """Round a float32 tile to the nearest values of `dtype`.

    Triton's interpreter would otherwise truncate float32 values to bfloat16.
    """
    if INTERPRETED and dtype == tl.bfloat16:
        bits = tile.to(tl.uint32, bitcast=True)
        # Round to nearest, with ties to even, and clear the low 16 bits, which bfloat16 lacks.
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
        tile = bits.to(tl.float32, bitcast=True)
    return tile.to(dtype)


@triton.jit
def hyperbolic_tangent(x):
    """Return tanh(x), computed with exp2.

    Near 0, a series is used instead, because the formula with exp2 would lose digits.
    """
    square = x * x
    series = x * (1.0 + square * (-0.333333333 + square * (0.133333333 + square * -0.053968254)))
    quotient = 1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2_E)) + 1.0)
    return tl.where(square < 0.01, series, quotient)


@triton.jit
def capped_scores(products, distance, scale, softcap, slope):
    """Scale and cap the products and add ALiBi's bias; `distance` is |i + seq_k - seq_q - j|.

    Returns the scores, converted to units of log2, and the derivative of the unconverted scores with respect to the
    scaled products.
    """
    scores = products * scale
    derivative = 1.0
    if softcap is not None:
        capped = hyperbolic_tangent(scores / softcap)
        scores = softcap * capped
        derivative = 1.0 - capped * capped
    if slope is not None:
        scores = scores - slope * distance
    return scores * LOG2_E, derivative
