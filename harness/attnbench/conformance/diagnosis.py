"""Diagnose a wrong answer by finding a common mistake that gives the same answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from attnbench.reference import Piece, attention, bias, in_bhsd

if TYPE_CHECKING:
    from attnbench.conformance.tolerance import Measured
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

# Two rows count as equal if their relative distance is at most this. The limit is larger than rounding errors and
# smaller than the error that any bug causes.
MAX_DIFFERENCE = 0.02
MAX_UNEXPLAINED = 0.25  # a mistake explains a wrong row if imitating it removes all but this share of the row's error
DERIVATIVE_STEP = 0.01  # relative step of the finite difference that estimates a derivative
Mistake = tuple[str, Callable[[], torch.Tensor]]


def guess(workload: Workload, inputs: Inputs, measured: Measured, piece: Piece, place: tuple[int, ...]) -> str | None:
    """Return the common mistake that explains the wrong row of `measured` at `place`, or None if no mistake does."""
    got = measured.got[place]
    of_output = measured.name == "output"
    if not got.isfinite().all():
        if of_output and not piece.visible[place[-1]].any():
            return "a row that sees no key is computed as 0/0; give such rows an output of exactly 0"
        return "an overflow, 0/0, or unwritten memory (subtract the running maximum before exp)"
    if not got.any():
        return "nothing was written here (the last partial tile?), or the mask hides too much"
    if of_output:
        error = (got - measured.expected[place]).norm()
        for text, make in _mistakes(workload, inputs, piece, place, got):
            other = make()
            if _alike(got, other) and (got - other).norm() <= MAX_UNEXPLAINED * error:
                return text
    return _factor(workload, got, measured.expected[place])


def _alike(got: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two rows are equal up to rounding."""
    return bool((got - other).norm() <= MAX_DIFFERENCE * other.norm())


def _factor(workload: Workload, got: torch.Tensor, expected: torch.Tensor) -> str | None:
    """Describe the constant factor by which a row differs from the expected row, or return None if there is none."""
    norm = float(expected.square().sum())
    factor = float((got * expected).sum()) / norm if norm else 0.0
    if not factor or abs(factor - 1) < MAX_DIFFERENCE or not _alike(got, factor * expected):
        return None
    group = workload.heads // workload.kv_heads
    scale = workload.effective_scale
    known = {
        scale: "the scale is applied once too often",
        1 / scale: "the scale is missing",
        1 / group: "averaged over the query heads of a group instead of summed",
        1 - workload.dropout: "dropout does not divide the kept weights by 1-p",
        -1.0: "the sign is wrong",
    }
    cause = next(
        (text for value, text in known.items() if abs(factor / value - 1) < MAX_DIFFERENCE),
        "a constant factor is wrong",
    )
    return f"{cause} (the row is {factor:.4g} times the expected one)"


def _mistakes(
    workload: Workload, inputs: Inputs, piece: Piece, place: tuple[int, ...], got: torch.Tensor
) -> Iterator[Mistake]:
    """Yield common mistakes in the forward pass, each with a function that returns the resulting row."""
    index, member, position = place
    row = piece.rows[position : position + 1]
    head = piece.head(index, member)
    slopes = bias(workload, inputs, row)
    right = {
        "query": piece.query[index, member, position : position + 1],
        "key": piece.key[index, 0],
        "value": piece.value[index, 0],
        "visible": piece.visible[position : position + 1],
        "scale": piece.scale,
        "softcap": workload.softcap,
        "bias": None if slopes is None else slopes[head],
    }

    def wrong(**changes: object) -> Callable[[], torch.Tensor]:
        return lambda: attention(**{**right, **changes}).output[0]  # type: ignore[arg-type]

    yield from _wrong_masks(workload, piece, position, wrong)
    for text, scale in _wrong_scales(workload):
        yield text, wrong(scale=scale)
    if workload.softcap is not None:
        yield "the softcap is ignored", wrong(softcap=None)
    if slopes is not None:
        yield "ALiBi is ignored", wrong(bias=None)
        yield "ALiBi's sign is wrong (distant keys must lose weight)", wrong(bias=-slopes[head])
    yield from _wrong_sources(workload, inputs, piece.batch, head, wrong)
    factor = _factor_of_scores(lambda factor: wrong(scale=piece.scale * factor)(), got)
    yield f"the scores are multiplied by an extra factor of {factor:.3g}", wrong(scale=piece.scale * factor)


def _factor_of_scores(answer: Callable[[float], torch.Tensor], got: torch.Tensor) -> float:
    """Use Gauss-Newton steps to find the score factor for which `answer(factor)` is closest to the row `got`."""
    factor = 1.0
    for _ in range(6):
        here = answer(factor)
        slope = (answer(factor * (1 + DERIVATIVE_STEP)) - here) / (factor * DERIVATIVE_STEP)
        if not slope.any():
            return factor
        factor = min(max(factor + float(((got - here) * slope).sum() / slope.square().sum()), factor / 2), 2 * factor)
    return factor


def _wrong_masks(
    workload: Workload, piece: Piece, position: int, wrong: Callable[..., Callable[[], torch.Tensor]]
) -> Iterator[Mistake]:
    """Yield mistakes in which the mask is ignored, inverted, off by one or wrongly aligned, or hides the last tile."""
    seen = piece.visible[position : position + 1]
    offset = workload.seq_k - workload.seq_q
    ahead = torch.nn.functional.pad(seen, (1, 0))[:, :-1]
    behind = torch.nn.functional.pad(seen, (0, 1))[:, 1:]
    yield "the mask is ignored", wrong(visible=torch.ones_like(seen))
    yield "the mask is inverted", wrong(visible=~seen)
    yield "one key too many is seen on the right (an off-by-one in the mask)", wrong(visible=seen | ahead)
    yield "one key too many is seen on the left (an off-by-one in the window)", wrong(visible=seen | behind)
    yield "the last visible key is left out (an off-by-one, or the diagonal excluded)", wrong(visible=seen & behind)
    yield "the first visible key is left out", wrong(visible=seen & ahead)
    if offset:
        if workload.mask.kind == "causal-top-left":
            alignment, shift = "bottom-right aligned where it should be top-left", offset
        else:
            alignment, shift = "top-left aligned where it should be bottom-right", -offset
        yield f"the mask is {alignment} (Sk - Sq is {offset})", wrong(visible=_shifted(seen, shift))
    partial = workload.seq_k % 64
    dropped = seen.clone()
    dropped[:, workload.seq_k - (partial or 1) :] = False
    yield "the last partial tile of keys is dropped", wrong(visible=dropped)


def _shifted(seen: torch.Tensor, shift: int) -> torch.Tensor:
    """Return a causal mask that ends `shift` keys after the last visible key of `seen`."""
    last = int(seen.nonzero()[-1, 1]) if seen.any() else -1
    columns = torch.arange(seen.shape[1], device=seen.device)[None]
    return columns <= last + shift


def _wrong_scales(workload: Workload) -> Iterator[tuple[str, float]]:
    """Yield common mistakes in the scale, each with the resulting scale."""
    right, default = workload.effective_scale, workload.head_dim**-0.5
    if workload.scale is not None:
        yield "the workload's scale is ignored (1/sqrt(head_dim) is used)", default
    yield "the scale is missing", 1.0
    yield "the scale is applied twice", right * right
    yield "the scale is 1/head_dim instead of 1/sqrt(head_dim)", 1 / workload.head_dim
    padded = {1 << math.ceil(math.log2(workload.head_dim)), -(-workload.head_dim // 64) * 64} - {workload.head_dim}
    for width in sorted(padded):
        yield f"the scale is computed from head_dim padded to {width}", width**-0.5
    if workload.head_dim_v != workload.head_dim:
        yield "the scale is computed from the values' head_dim", workload.head_dim_v**-0.5


def _wrong_sources(
    workload: Workload, inputs: Inputs, batch: int, head: int, wrong: Callable[..., Callable[[], torch.Tensor]]
) -> Iterator[Mistake]:
    """Yield mistakes in which keys and values are read from the wrong head or sequence."""
    key, value = (in_bhsd(tensor, inputs.layout).detach() for tensor in (inputs.key, inputs.value))
    tiled = head % workload.kv_heads
    if tiled != head // (workload.heads // workload.kv_heads):
        sources = {"key": key[batch, tiled].double(), "value": value[batch, tiled].double()}
        yield "key heads are tiled (h % kv_heads) instead of repeated (h // group)", wrong(**sources)
    if batch:
        sources = {"key": key[0, head * workload.kv_heads // workload.heads].double()}
        sources["value"] = value[0, head * workload.kv_heads // workload.heads].double()
        yield "keys and values of sequence 0 are used for every sequence", wrong(**sources)
