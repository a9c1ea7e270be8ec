"""The reference that every variant is compared with: attention in float64, written for clarity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

NEGLIGIBLE_WEIGHT = 1e-12  # a key with a smaller weight hardly changes an answer, so the size of its score is ignored
# To limit memory use, about this many query-key pairs, and elements of keys and values, are evaluated at once. A piece
# contains at least one key head, and all its rows if gradients are computed.
PIECE_PAIRS, PIECE_ELEMENTS = 1 << 19, 1 << 20


@dataclass(frozen=True)
class Attention:
    """The result of attention for R rows of queries and Sk keys, with any leading dimensions.

    - `output` (..., R, Dv); exactly 0 for a row without a visible key
    - `weights` (..., R, Sk): the softmax, before dropout
    - `slope` (..., R, Sk): derivative of the soft-capped score with respect to the score; None without a softcap
    - `lse` (..., R): natural log of the sum of the exponentiated scores; -inf for a row without a visible key
    - `largest_score` (..., R): the largest absolute score of the row among the keys whose weight is not negligible.
      Each key has two scores, one before the softcap and one after softcap and bias, and the larger one counts.
    """

    output: torch.Tensor
    weights: torch.Tensor
    slope: torch.Tensor | None
    lse: torch.Tensor
    largest_score: torch.Tensor


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    bias: torch.Tensor | None = None,
    kept: torch.Tensor | None = None,
) -> Attention:
    """Compute softmax attention by its textbook definition, in the dtype of the arguments.

    Shapes: query (..., R, D), key (..., Sk, D), value (..., Sk, Dv), visible (R, Sk), bias broadcastable to
    (..., R, Sk). The steps are applied in this order: scale, softcap, bias, mask, softmax, dropout. `kept`
    (..., R, Sk) is the factor by which dropout multiplies each weight: 0 or 1/(1-p).
    """
    # A plain implementation rounds the products before they are scaled, so the order matters in lower precision.
    products = scale * (query @ key.mT)
    scores, slope = products, None
    if softcap is not None:
        scores = softcap * torch.tanh(products / softcap)
        slope = 1 - (scores.detach() / softcap).square()
    if bias is not None:
        scores = scores + bias
    weights = _masked_softmax(scores, visible)
    with torch.no_grad():
        size = products.abs() if scores is products else torch.maximum(products.abs(), scores.abs())
        largest = _largest(size.masked_fill(weights < NEGLIGIBLE_WEIGHT, 0.0), 0.0)
        # The weight of the key with the largest score is exp(score - lse).
        largest_visible = _largest(_hide(scores, visible, -math.inf), -math.inf)
        lse = largest_visible - torch.where(largest_visible > -math.inf, _largest(weights, 1.0), 1.0).log()
    output = (weights if kept is None else weights * kept) @ value
    return Attention(output, weights, slope, lse, largest)


def visible(workload: Workload, inputs: Inputs, batch: int, rows: torch.Tensor) -> torch.Tensor:
    """Return which keys are visible to each of `rows` (R,) in sequence `batch`, as a bool tensor (R, Sk).

    `Mask` defines the rules for each kind of mask.
    """
    mask = workload.mask
    row = rows[:, None]
    column = torch.arange(workload.seq_k, device=rows.device)[None, :]
    # The position of each row under bottom-right alignment, in which the last query has the position of the last key.
    aligned = row + (workload.seq_k - workload.seq_q)

    def same_document() -> torch.Tensor:
        documents = _required(inputs.document_ids, "document_ids")[batch]
        return documents[rows][:, None] == documents[None, :]

    rules = {
        "none": lambda: column >= 0,
        "causal": lambda: column <= aligned,
        "causal-top-left": lambda: column <= row,
        "window": lambda: (column >= aligned - mask.left) & (column <= aligned + mask.right),
        "prefix": lambda: (column <= aligned) | (column < mask.prefix),
        "padding": lambda: column < _required(inputs.key_lengths, "key_lengths")[batch],
        "document": same_document,
    }
    return rules[mask.kind]().expand(len(rows), -1)


def bias(
    workload: Workload, inputs: Inputs, rows: torch.Tensor, heads: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return the ALiBi bias of query heads for `rows` (R,), or None for a workload without ALiBi.

    The bias is a float64 tensor (H, R, Sk) for the H query heads whose indices are in `heads` (default: all). For query
    head h, it is -slope_h * |i + Sk - Sq - j| at row i and key j.
    """
    if not workload.alibi:
        return None
    slopes = _required(inputs.alibi_slopes, "alibi_slopes").double()
    slopes = slopes if heads is None else slopes[heads]
    position = rows + (workload.seq_k - workload.seq_q)
    distance = (position[:, None] - torch.arange(workload.seq_k, device=rows.device)[None, :]).abs()
    return -slopes[:, None, None] * distance.double()


@dataclass(frozen=True)
class Part:
    """A part of a workload: all combinations of the given sequences (`batches`), key heads and query rows."""

    batches: tuple[int, ...]
    kv_heads: tuple[int, ...]
    rows: tuple[int, ...]

    @classmethod
    def whole(cls, workload: Workload) -> Part:
        """Return the part that contains every row of every head of every sequence."""
        return cls(*(tuple(range(size)) for size in (workload.batch, workload.kv_heads, workload.seq_q)))


@dataclass(frozen=True)
class Piece:
    """The reference's result for some query rows of one sequence and n key heads, each shared by g query heads.

    `query` (n, g, R, D), `key` (n, 1, Sk, D), `value` (n, 1, Sk, Dv) and `grad_output` (n, g, R, Dv) are the inputs in
    the reference's dtype. `gradients` are the gradients of query, key and value, and `weights_gradient` (n, g, R, Sk)
    is the gradient of the weights; all of them are None if no gradients were requested.
    """

    batch: int
    kv_heads: torch.Tensor
    rows: torch.Tensor
    visible: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attention: Attention
    scale: float
    grad_output: torch.Tensor | None = None
    gradients: tuple[torch.Tensor, ...] | None = None
    weights_gradient: torch.Tensor | None = None

    def of_queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """Select this piece's rows and heads from a tensor (B, Hq, Sq, ...), and return them as (n, g, R, ...)."""
        return _rows_of(tensor[self.batch], self.query.shape[1], self.kv_heads, self.rows)

    def of_keys(self, tensor: torch.Tensor) -> torch.Tensor:
        """Select this piece's heads from a tensor (B, Hkv, Sk, ...), and return them as (n, 1, Sk, ...)."""
        return tensor[self.batch][self.kv_heads][:, None]

    def within(self, part: Part) -> Piece:
        """Return this piece with its positions in tensors that contain only `part`, for `of_queries` and `of_keys`."""
        places = (
            part.batches.index(self.batch),
            torch.tensor([part.kv_heads.index(head) for head in self.kv_heads.tolist()]),
            torch.tensor([part.rows.index(row) for row in self.rows.tolist()]),
        )
        return replace(self, batch=places[0], kv_heads=places[1], rows=places[2])

    def head(self, index: int, member: int) -> int:
        """Convert the position [index, member] of a query head in this piece to its index among all query heads."""
        return int(self.kv_heads[index]) * self.query.shape[1] + member


def evaluate(
    workload: Workload,
    inputs: Inputs,
    part: Part | None = None,
    *,
    gradients: bool = False,
    dtype: torch.dtype = torch.float64,
    kept: torch.Tensor | None = None,
    whole_rows: bool = False,
) -> Iterator[Piece]:
    """Yield the reference's results for `part` (default: the whole workload) in pieces, which limits the memory needed.

    Gradients are computed by autograd from an output gradient that equals `inputs.grad_output` at the rows of `part`
    and 0 at all other rows. `kept` (B, Hq, Sq, Sk) is the factor by which dropout multiplied each weight. With a
    `dtype` of lower precision, the same code serves as a plain implementation in that dtype. Each piece contains all
    rows of its heads if `gradients` or `whole_rows` is true.
    """
    part = part or Part.whole(workload)
    group = workload.heads // workload.kv_heads
    heads = torch.tensor(part.kv_heads, device=inputs.query.device, dtype=torch.long)
    rows = torch.tensor(part.rows, device=inputs.query.device, dtype=torch.long)
    pairs_of_row = max(1, group * workload.seq_k)  # in one key head
    row_step = max(1, len(rows) if gradients or whole_rows else min(len(rows), PIECE_PAIRS // pairs_of_row))
    of_pairs = PIECE_PAIRS // (row_step * pairs_of_row)
    of_elements = PIECE_ELEMENTS // max(1, workload.seq_k * (workload.head_dim + workload.head_dim_v))
    head_step = max(1, min(of_pairs, of_elements))
    for batch in part.batches:
        for some_heads in torch.split(heads, head_step):
            for some_rows in torch.split(rows, row_step):
                yield _piece(
                    workload, inputs, batch, some_heads, some_rows, gradients=gradients, dtype=dtype, kept=kept
                )


def attend(workload: Workload, inputs: Inputs) -> torch.Tensor:
    """Return the complete output in float64 as (B, Hq, Sq, Dv), regardless of the layout of the inputs."""
    shape = (workload.batch, workload.heads, workload.seq_q, workload.head_dim_v)
    output = torch.zeros(shape, dtype=torch.float64, device=inputs.query.device)
    group = workload.heads // workload.kv_heads
    for piece in evaluate(workload, inputs):
        heads = _grouped(output[piece.batch], group)
        heads[piece.kv_heads[:, None], :, piece.rows] = piece.attention.output.movedim(2, 1)
    return output


def in_bhsd(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """Return a tensor in `layout` as a view with the dimensions (batch, heads, sequence, width)."""
    return tensor if layout == "BHSD" else tensor.transpose(1, 2)


def _piece(
    workload: Workload,
    inputs: Inputs,
    batch: int,
    kv_heads: torch.Tensor,
    rows: torch.Tensor,
    *,
    gradients: bool,
    dtype: torch.dtype,
    kept: torch.Tensor | None,
) -> Piece:
    """Evaluate `rows` of one sequence for the given key heads."""
    group = workload.heads // workload.kv_heads

    def queries(tensor: torch.Tensor) -> torch.Tensor:
        return _rows_of(tensor[batch], group, kv_heads, rows).detach().to(dtype)

    def keys(tensor: torch.Tensor) -> torch.Tensor:
        return in_bhsd(tensor, inputs.layout)[batch][kv_heads][:, None].detach().to(dtype)

    leaves = (queries(in_bhsd(inputs.query, inputs.layout)), keys(inputs.key), keys(inputs.value))
    for leaf in leaves:
        leaf.requires_grad_(gradients)
    seen = visible(workload, inputs, batch, rows)
    heads = (kv_heads[:, None] * group + torch.arange(group, device=rows.device)).flatten()
    alibi = bias(workload, inputs, rows, heads)
    result = attention(
        *leaves,
        seen,
        scale=workload.effective_scale,
        softcap=workload.softcap,
        bias=None if alibi is None else _grouped(alibi, group).to(dtype),
        kept=None if kept is None else queries(kept),
    )
    query, key, value = (leaf.detach() for leaf in leaves)
    piece = Piece(batch, kv_heads, rows, seen, query, key, value, _detached(result), workload.effective_scale)
    if not gradients:
        return piece
    if inputs.grad_output is None:
        raise ValueError(
            f"gradients of {workload.id} need inputs.grad_output, which inputs for the direction forward lack"
        )
    grad_output = queries(in_bhsd(inputs.grad_output, inputs.layout))
    *of_leaves, of_weights = torch.autograd.grad(result.output, (*leaves, result.weights), grad_output)
    return replace(piece, grad_output=grad_output, gradients=tuple(of_leaves), weights_gradient=of_weights)


def _grouped(heads: torch.Tensor, group: int) -> torch.Tensor:
    """Return a view (Hkv, group, ...) of a tensor (Hq, ...). Query head h uses key head h // group."""
    return heads.view(heads.shape[0] // group, group, *heads.shape[1:])


def _rows_of(heads: torch.Tensor, group: int, kv_heads: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the given rows of all query heads of `kv_heads`, as (n, group, R, ...), from a tensor (Hq, Sq, ...)."""
    return _grouped(heads, group)[kv_heads[:, None], :, rows].movedim(1, 2)


def _detached(result: Attention) -> Attention:
    """Return the result with all tensors detached from the autograd graph."""
    return replace(result, output=result.output.detach(), weights=result.weights.detach())


def _masked_softmax(scores: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the visible keys.

    Keys that are not visible have a weight of exactly 0 and get no gradient, even in a row without any visible key.
    """
    blind = ~visible.any(-1, keepdim=True)
    scores = _hide(_hide(scores, visible, -math.inf), ~blind, 0.0)
    return _hide(torch.softmax(scores, -1), visible, 0.0)


def _hide(tensor: torch.Tensor, visible: torch.Tensor, value: float) -> torch.Tensor:
    """Return the tensor (..., R, Sk) with `value` at the keys that are not visible."""
    return tensor if visible.all() else tensor.masked_fill(~visible, value)


def _largest(tensor: torch.Tensor, of_nothing: float) -> torch.Tensor:
    """Return the largest value of each row (..., R) of a tensor (..., R, Sk), or `of_nothing` if there is no key."""
    return tensor.amax(-1) if tensor.shape[-1] else tensor.new_full(tensor.shape[:-1], of_nothing)


def _required(tensor: torch.Tensor | None, name: str) -> torch.Tensor:
    if tensor is None:
        raise ValueError(f"inputs.{name} is missing: create the inputs of this workload with make_inputs")
    return tensor
