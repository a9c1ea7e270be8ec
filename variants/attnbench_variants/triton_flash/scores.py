"""From products of queries and keys to scores in units of log2, so that softmax needs exp2 alone."""

import triton
import triton.language as tl
from triton import knobs

INTERPRETED = tl.constexpr(knobs.runtime.interpret)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def tile_pointers(tensor, rows, columns, width):
    """Point at a tile of a row-major matrix that is `width` wide."""
    return tensor + rows[:, None] * width + columns[None, :]


@triton.jit
def load_tile(tensor, rows, columns, row_limit, WIDTH: tl.constexpr, PADDED: tl.constexpr, CHECKED: tl.constexpr):
    """Load a tile; what lies past `row_limit` (where CHECKED) or past WIDTH (where PADDED) reads as 0."""
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
    """Give left @ right + addend in float32, without TF32; the interpreter can't multiply bfloat16: it is widened."""
    if INTERPRETED:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, addend, input_precision="ieee")


@triton.jit
def narrowed(tile, dtype):
    """Round float32 to the nearest `dtype`, which the interpreter, cutting bfloat16 off, does not do by itself."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = tile.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16  # what is cut off must be 0, or 0 would not stay 0
        tile = bits.to(tl.float32, bitcast=True)
    return tile.to(dtype)


@triton.jit
def hyperbolic_tangent(x):
    """Compute tanh by exp2, and by its series where the difference of near numbers would cost digits."""
    square = x * x
    series = x * (1.0 + square * (-0.333333333 + square * (0.133333333 + square * -0.053968254)))
    quotient = 1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2_E)) + 1.0)
    return tl.where(square < 0.01, series, quotient)


@triton.jit
def bent_scores(products, distance, scale, softcap, slope):
    """Cap the scaled products and add ALiBi; `distance` is |i + seq_k - seq_q - j|.

    Returns the scores in units of log2 and the derivative of the natural scores by the scaled products.
    """
    scores = products * scale
    derivative = 1.0
    if softcap is not None:
        bent = hyperbolic_tangent(scores / softcap)
        scores = softcap * bent
        derivative = 1.0 - bent * bent
    if slope is not None:
        scores = scores - slope * distance
    return scores * LOG2_E, derivative
